"""The commands: serve, cast, worker, upload, download, query, status.

``main`` knows every command by name and one sentence and imports only the one that is called, so that help is quick.
The client commands (upload, download, query, status) speak plain DICOMweb over ``connection`` and work against any
DICOMweb server: of the server's rooms they use only what is pure (dicom, the multipart reader).
"""
