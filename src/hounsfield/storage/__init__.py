"""The object store: one interface, local files, S3, Azure Blob and Google Cloud behind it; key layout; upload spool.

Knows bytes and keys, nothing of DICOM, SQL or HTTP.
"""
