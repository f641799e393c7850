"""Data partitions in request paths, and GET partitions (server.md §4)."""

import re
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.index import partitions
from hounsfield.index.partitions import DEFAULT, Partition
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Partitions:
    """Turns the partition of a request path into the one of the index. Names are kept for a while."""

    def __init__(self, database: Database, *, enabled: bool, cache_size: int, cache_time: timedelta) -> None:
        self._database = database
        self.enabled = enabled
        self._cache_size = cache_size
        self._cache_seconds = cache_time.total_seconds()
        self._cache: OrderedDict[str, tuple[Partition, float]] = OrderedDict()

    def require_enabled(self) -> None:
        """Raise BadRequest where the feature is off."""
        if not self.enabled:
            raise BadRequest("Data partitions feature is disabled.")

    def require_valid(self, name: str) -> None:
        """Raise BadRequest where the feature is off or the name cannot be one."""
        self.require_enabled()
        if _NAME.fullmatch(name) is None:
            raise BadRequest("The specified PartitionName is invalid. ")

    async def resolve(self, name: str | None, *, create: bool) -> Partition:
        """The partition a path names (None where it names none). Raises BadRequest.

        ``create``: make one that does not exist.
        """
        if name is None:
            if self.enabled:
                raise BadRequest("PartitionName value is missing in the route segment.")
            return DEFAULT
        self.require_valid(name)
        found = self._known(name)
        if found is not None:
            return found
        found = await partitions.find(self._database, name)
        if found is None:
            if not create:
                raise BadRequest("Specified PartitionName does not exist.")
            found = await partitions.ensure(self._database, name)
        self._keep(found)
        return found

    def _known(self, name: str) -> Partition | None:
        partition, until = self._cache.get(name, (None, 0.0))
        if partition is None or time.monotonic() >= until:
            return None
        self._cache.move_to_end(name)
        return partition

    def _keep(self, partition: Partition) -> None:
        self._cache[partition.name] = (partition, time.monotonic() + self._cache_seconds)
        self._cache.move_to_end(partition.name)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def partition_routes(database: Database, known: Partitions) -> list[ApiRoute]:
    """The route that lists all partitions."""

    async def handle(_: Request) -> Response:
        known.require_enabled()
        found = await partitions.all_partitions(database)
        return Response(
            msgspec.json.encode(
                [
                    {
                        "partitionKey": partition.key,
                        "partitionName": partition.name,
                        "createdDate": datetime.fromtimestamp(created / 1_000_000, UTC).isoformat(),
                    }
                    for partition, created in found
                ]
            ),
            headers={"content-type": "application/json; charset=utf-8"},
        )

    return [
        ApiRoute(
            "/partitions",
            handle,
            "GET",
            "partitions",
            data_action=DataAction.READ,
            audit_action="partition",
            partitioned=False,
        )
    ]
