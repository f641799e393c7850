"""Work in the background: removing what was deleted, and long-running operations.

``job`` says what an operation is and what its kind has to bring along, ``engine`` changes their states, ``records``
reads them, ``runner`` works them off in every worker process, ``worker`` is what one process at a time does besides.
"""
