"""DICOM Cast: reads the change feed and keeps Patient, Endpoint, ImagingStudy and Observation true to it.

Mapping is pure (values in, resources out); the synchroniser talks to one FHIR target and one feed; state and error
tables live in the database.
"""
