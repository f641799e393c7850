"""The two database engines, SQLite and PostgreSQL, behind one small interface, and the migrations.

Knows how a connection is opened, how a transaction runs, how writes are grouped into one durable commit. Which tables
exist is declared here too (schema.py), because one migration chain makes them all; what the rows mean is
the business of the rooms that query them (index, fhir, cast, operations).
"""
