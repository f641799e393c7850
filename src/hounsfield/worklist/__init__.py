"""The worklist: workitems (Unified Procedure Steps, PS3.4 annex CC, PS3.18 §11) and what may happen to them.

What belongs here: the requirements of PS3.4 Table CC.2.5-3 as a table, the states as a table, the transactions as units
of work on the database, the index of searchable attributes and its SQL. Nothing here knows HTTP, and nothing touches
a file: a workitem is a row.
"""
