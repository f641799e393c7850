"""A rebuild as a long-running operation: how one is asked for. Light, for the processes that answer requests."""

from hounsfield.database.engine import Database, Transaction
from hounsfield.operations import engine

KIND = "rebuild-cast"


async def start(database: Database, from_sequence: int = 0) -> str:
    """Have the active worker make FHIR equal to what a clean pass gives; returns the operation's id.

    Only studies with a change feed entry at ``from_sequence`` or later. Raises AlreadyRunning: one at a time.
    """

    async def unit(tx: Transaction) -> str:
        return await engine.start(tx, KIND, {"fromSequence": from_sequence}, alone=True)

    return await database.write(unit)
