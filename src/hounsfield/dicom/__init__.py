"""DICOM itself: Part 10 reading, the DICOM JSON model, VR rules, UIDs, person names, dates, pixels.

Pure: bytes and values in, values out. No HTTP, no SQL, no object store, no settings. What a rule needs to know
(an API version, a limit) is a parameter.
"""
