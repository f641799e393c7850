"""The embedded FHIR store."""
