"""The commands: serve, cast, worker, upload, download, query, status.
"""
