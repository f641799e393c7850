"""DICOM Cast: position, errors, what the worker is doing."""
