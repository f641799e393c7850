"""Routes below a version, with what is to be known of them before they are handled."""

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from hounsfield.index.partitions import Partition
from hounsfield.security.roles import DataAction

Handler = Callable[[Request], Awaitable[ASGIApp]]
Check = Callable[[Request], None]


class ApiRoute(Route):
    """A route declared without its version.

    ``data_action``: what the caller must be permitted; ``audit_action``: its name in the audit log (server.md §1).
    ``partitioned``: also answered below ``/partitions/{name}``. ``creates_partition``: an unknown one is made.
    ``check_content`` may refuse what the request sends, before anybody asks who sends it; ``check`` runs afterwards and
    before the partition is looked up (server.md §9, store.md §1). ``since``: the version it begins with; below, it is
    not there. ``in_prerelease``: whether it is in v1.0-prerelease, which else does not support it.
    """

    def __init__(
        self,
        path: str,
        handle: Handler,
        method: str,
        name: str,
        *,
        data_action: DataAction,
        audit_action: str,
        partitioned: bool = True,
        creates_partition: bool = False,
        in_prerelease: bool = True,
        check_content: Check | None = None,
        check: Check | None = None,
        since: int = 1,
    ) -> None:
        super().__init__(path, handle, methods=[method], name=name)
        # The reference takes its fixed segments in any case.
        self.path_regex = re.compile(self.path_regex.pattern, re.IGNORECASE)
        self.accepted_methods = frozenset(self.methods or ())
        self.handle_request = handle
        self.data_action = data_action
        self.audit_action = audit_action
        self.partitioned = partitioned
        self.creates_partition = creates_partition
        self.in_prerelease = in_prerelease
        self.check_content = check_content
        self.check = check
        self.since = since


def partition_of(request: Request) -> Partition:
    """The data partition of a request to a partitioned route."""
    partition: Partition = request.scope["hounsfield.partition"]
    return partition
