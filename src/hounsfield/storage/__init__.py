"""The object store: one interface, local files, S3, Azure Blob and Google Cloud behind it; key layout; upload spool.

Knows bytes and keys, nothing of DICOM, SQL or HTTP. Whether an object *exists* for a client is decided by the index,
not here: this room only promises that what was put is durable and whole, and that what was deleted is gone.

``object_store`` is the interface, ``local`` (with ``directories`` and ``listing``) and ``cloud`` (with ``azure``) are
its two implementations, ``urls`` chooses between them. ``layout`` says where an instance lies, ``spool`` holds an
upload until it is put.
"""
