"""Routes below a version, with what is to be known of them before they are handled."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from hounsfield.index.partitions import Partition

Handler = Callable[[Request], Awaitable[ASGIApp]]
Check = Callable[[Request], None]


class ApiRoute(Route):
    """A route declared without its version.

    ``partitioned``: also answered below ``/partitions/{name}``. ``creates_partition``: an unknown one is made.
    ``check`` runs before the partition is looked up and may refuse the request (server.md §9, store.md §1).
    """

    def __init__(
        self,
        path: str,
        handle: Handler,
        method: str,
        name: str,
        *,
        partitioned: bool = True,
        creates_partition: bool = False,
        check: Check | None = None,
    ) -> None:
        super().__init__(path, handle, methods=[method], name=name)
        self.handle_request = handle
        self.partitioned = partitioned
        self.creates_partition = creates_partition
        self.check = check


def partition_of(request: Request) -> Partition:
    """The data partition of a request to a partitioned route."""
    partition: Partition = request.scope["hounsfield.partition"]
    return partition
