"""Tests that use a database run on both engines."""

from tests.index.conftest import database, other, url

__all__ = ["database", "other", "url"]
