"""What cast has filed as failed."""

from hounsfield.cast.error_tables import StoredError
from hounsfield.cast.failure import Table
from hounsfield.cast.state import CastState


async def rows(state: CastState, table: Table) -> list[StoredError]:
    """The errors in a table."""
    found, _ = await state.errors(table, 1000, None)
    return found


async def counts(state: CastState) -> dict[str, int]:
    """How many there are, by the names of the tables that have any."""
    found = (await state.status()).error_counts
    return {table.name: count for table, count in found.items() if count}
