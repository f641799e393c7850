"""Hounsfield: a DICOMweb server with a change feed, and a worker that keeps a FHIR server true to it."""

__version__ = "0.1.0"
