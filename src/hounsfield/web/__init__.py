"""HTTP only: routes, versions, negotiation, multipart, headers, errors, OpenAPI documents.

A handler parses the request, calls one use case and renders its answer.
"""
