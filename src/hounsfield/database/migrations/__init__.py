"""Alembic migrations, one chain for both engines."""
