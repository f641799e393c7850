"""Points at which a test has a process die, to see what that leaves: of store, delete, cleanup and operations.

``HOUNSFIELD_FAULT=<name>`` in the environment ends every process that reaches the point of this name, by SIGKILL, as
a crash would. For tests only.
"""

import os
import signal

POINTS = (
    "store: received",
    "store: read",
    "file: written",
    "file: named",
    "file: synced",
    "upload: synced",
    "upload: moved",
    "store: placed",
    "transaction: by one statement",
    "transaction: begun",
    "transaction: before commit",
    "transaction: committed",
    "file: name synced",
    "store: done",
    "operation: started",
    "operation: claimed",
    "operation: step prepared",
    "operation: step guarded",
    "operation: step applied",
    "operation: ended",
    "operation: step committed",
    "operation: given back",
    "operation: failure recorded",
    "operation: given up",
    "operation: cancel asked",
    "operation: stopped",
    "update: drawn",
    "batch: synced",
    "update: files written",
    "update: filled",
    "update: switched",
    "export: file written",
    "export: page written",
    "export: log written",
    "tag deletion: batch removed",
    "cleanup: file removed",
    "cleanup: done",
)
"""In the order in which they are reached."""

_armed = os.environ.get("HOUNSFIELD_FAULT", "")


def point(name: str) -> None:
    """Die here if a test wants it."""
    if _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
