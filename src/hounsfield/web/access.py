"""Who a request comes from, what it may do, and its entries in the audit log (server.md §§9, 10)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hounsfield.errors import HounsfieldError
from hounsfield.security.audit import Audit, AuditRecord
from hounsfield.security.claims import Claims, InvalidToken
from hounsfield.security.roles import ALL_ACTIONS, DataAction, Forbidden, Roles, role_names
from hounsfield.web.errors import drain

if TYPE_CHECKING:
    # The cryptography library is loaded only where security is on: 10 MB a process.
    from hounsfield.security.tokens import TokenVerifier


class Unauthorized(HounsfieldError):
    """There is no token, or a bad one. The answer has no body (RFC 6750 §3)."""

    status = 401

    def __init__(self, challenge: str) -> None:
        super().__init__("")
        self._challenge = challenge

    @property
    def headers(self) -> Mapping[str, str]:
        """How to ask for access."""
        return {"WWW-Authenticate": self._challenge}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the claims of the token, and what its roles permit."""

    claims: Claims = field(default_factory=dict)
    permissions: frozenset[DataAction] = ALL_ACTIONS

    def require(self, *actions: DataAction) -> None:
        """Raise Forbidden unless all are permitted."""
        if not self.permissions.issuperset(actions):
            raise Forbidden


ANYBODY = Caller()
"""The caller where security is off."""


def caller_of(request: Request) -> Caller:
    """Who sent the request."""
    caller: Caller = request.scope["hounsfield.caller"]
    return caller


class Access:
    """Admits requests.

    ``tokens``: None where security is off. ``roles``: None where every good token may do everything; ``roles_claim`` is
    the claim that names a caller's roles.
    """

    def __init__(
        self,
        audit: Audit,
        tokens: "TokenVerifier | None" = None,
        roles: Roles | None = None,
        roles_claim: str = "roles",
    ) -> None:
        self._audit = audit
        self._tokens = tokens
        self._roles = roles
        self._roles_claim = roles_claim

    async def admit(self, request: Request, action: str) -> Caller:
        """The caller, with the beginning of the audited ``action`` written down.

        Raises Unauthorized, and BadRequest for audit headers beyond their limits.
        """
        caller = ANYBODY if self._tokens is None else await self._authenticate(request, self._tokens)
        scope = request.scope
        record = self._audit.record(action, _uri(scope), scope["headers"], _address(scope), caller.claims)
        if record is not None:
            record.executing()
            scope["hounsfield.audit"] = record
        scope["hounsfield.caller"] = caller
        return caller

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._tokens is not None:
            await self._tokens.provider.close()

    async def _authenticate(self, request: Request, tokens: "TokenVerifier") -> Caller:
        scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized(_challenge(tokens))
        try:
            claims = await tokens.verify(token.strip())
        except InvalidToken as error:
            detail = f', error="invalid_token", error_description="{error}"'
            raise Unauthorized(_challenge(tokens) + detail) from error
        if self._roles is None:
            return Caller(claims)
        return Caller(claims, self._roles.permissions(role_names(claims, self._roles_claim)))


def _challenge(tokens: "TokenVerifier") -> str:
    audience = _quotable(tokens.audiences[0] if tokens.audiences else "")
    authority = _quotable(tokens.provider.authority)
    return f'Bearer authorization_uri="{authority}", resource_id="{audience}", realm="{audience}"'


def _quotable(text: str) -> str:
    """Text for a quoted string of a header (RFC 9110 §5.6.4)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _uri(scope: Scope) -> str:
    host = b""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
            break
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    target = raw_path.partition(b"?")[0] + (b"?" + query if query else b"")
    return f"{scope['scheme']}://{host.decode('latin-1')}{target.decode('latin-1')}"


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def end_audit(scope: Scope, status: int | None) -> None:
    """Write down how a request ended, if its action was audited; only the first time this is called for it."""
    record: AuditRecord | None = scope.pop("hounsfield.audit", None)
    if record is not None:
        record.executed(status)


class ProtectedRoute(Route):
    """A route without a version that asks for a token.

    ``audit_action`` names the action, from the request where one route has several. ``data_action`` is what the caller
    must be permitted; None where the endpoint sees to it.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[[Request], Awaitable[ASGIApp]] | ASGIApp,
        *,
        name: str,
        audit_action: str | Callable[[Request], str],
        data_action: DataAction | None = DataAction.READ,
        methods: list[str] | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods, name=name)
        self._audit_action = audit_action
        self.data_action = data_action

    def audit_action(self, request: Request) -> str:
        """The action as the audit log names it."""
        return self._audit_action if isinstance(self._audit_action, str) else self._audit_action(request)

    def protected(self, access: Access) -> ASGIApp:
        """The route behind ``access``."""

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            try:
                caller = await access.admit(request, self.audit_action(request))
                if self.data_action is not None:
                    caller.require(self.data_action)
            except HounsfieldError:
                await drain(request)
                raise
            await self.handle(scope, receive, send)

        return run
