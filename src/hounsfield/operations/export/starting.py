"""Starting an export: its destination is tried, then the operation begins (operations.md §3)."""

import asyncio
import secrets

import msgspec

from hounsfield.database.engine import Database, Transaction
from hounsfield.operations import engine
from hounsfield.operations.export.opening import Opener
from hounsfield.operations.export.request import KIND, ExportRequest
from hounsfield.security.sealing import Seal

KEY_BYTES = 32


async def start_export(database: Database, opener: Opener, seal: Seal, request: ExportRequest) -> str:
    """Make the log at the destination and start the operation; returns its id. Raises DestinationRefused."""
    operation_id = engine.new_id()
    destination = opener.open(request, operation_id, request.secret)
    try:
        await destination.begin()
        href = destination.errors_href
    finally:
        await destination.close()
    # The key of de-identification is a secret, too: with it, UIDs could be linked to those of the archive.
    key = secrets.token_hex(KEY_BYTES) if request.deidentification is not None else ""
    sealed = None
    if request.secret or key:
        text = msgspec.json.encode({"destination": request.secret, "key": key})
        sealed = await asyncio.to_thread(seal.seal, text, operation_id)

    async def unit(tx: Transaction) -> str:
        arguments = {**request.arguments(), "errorHref": href}
        return await engine.start(tx, KIND, arguments, secret=sealed, identifier=operation_id)

    return await database.write(unit)
