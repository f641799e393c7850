"""Servers nobody here wrote, started for the tests: PostgreSQL, S3 (moto), Azure Blob (Azurite), FHIR R4 (Medplum).

``install.sh`` installs them, ``fixtures`` offers them to tests. A peer that is not installed skips its tests with the
reason; in CI (``CI=true``) it fails them.
"""
