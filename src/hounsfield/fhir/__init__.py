"""FHIR: the embedded R4 store, the client for any other FHIR server, and the interface both offer to cast.

Knows resources, searches, bundles. Nothing of DICOM.
"""
