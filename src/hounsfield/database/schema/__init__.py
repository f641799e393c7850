"""The tables, declared once for both engines; migrations/ makes them.

Only migrations and their tests import this: running processes speak SQL and never load SQLAlchemy.
Times are integers, microseconds since 1970 UTC. Key columns (``…_key``) hold the folded form that matching
compares; on PostgreSQL they are collated "C", so that ranges mean the same as on SQLite.
"""

from hounsfield.database.schema import cast, fhir, index, operations, query_tags, worklist
from hounsfield.database.schema.base import metadata

__all__ = ["cast", "fhir", "index", "metadata", "operations", "query_tags", "worklist"]
