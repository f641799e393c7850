"""Pictures of DICOM instances: pixels as a display would show them, reports as text, waveforms as a plot.

``options`` says what a client may ask for and is light. Everything else needs numpy, Pillow and pydicom, and is
imported in the codec processes only. Pure: bytes in, bytes out. What belongs elsewhere: decoding of compressed pixels
(dicom.codecs), and which bytes of which file to read (archive.rendering).
"""
