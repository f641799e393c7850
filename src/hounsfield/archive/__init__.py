"""The use cases: store, retrieve, search, delete, change feed. The only room that joins index and storage.

No HTTP: a use case takes typed arguments, returns typed answers and raises the errors of hounsfield.errors.
"""
