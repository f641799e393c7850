"""The index: which studies, series and instances exist, their searchable values, metadata, frames, and the change feed.

SQL only. It decides what exists; it never sees a file, an HTTP request or a FHIR resource.
"""
