"""Every condition the server can refuse with: one root, one class per condition, the HTTP status attached.

Handlers raise, one place renders (web/errors.py). Texts name the problem and never hold patient data;
they reach the client as they are (text/plain, server.md §3).
"""

from collections.abc import Mapping
from typing import ClassVar


class HounsfieldError(Exception):
    """Root of all errors we raise on purpose; ``status`` is the HTTP status it renders as."""

    status: ClassVar[int] = 500

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer that tell the client what to do."""
        return {}

    @property
    def message(self) -> str:
        """The sentence for the client."""
        return str(self)


class BadRequest(HounsfieldError):
    """A request that cannot be understood or breaks a rule."""

    status = 400


class TookTooLong(BadRequest):
    """A read was given up because it took longer than it may."""


class NotFound(HounsfieldError):
    """Something named in the request does not exist."""

    status = 404


class NotAcceptable(HounsfieldError):
    """No representation the client accepts can be produced. An empty text renders an empty body."""

    status = 406


class Conflict(HounsfieldError):
    """The request contradicts what exists."""

    status = 409


class PayloadTooLarge(HounsfieldError):
    """A part or body exceeds its limit."""

    status = 413


class UnsupportedMediaType(HounsfieldError):
    """The request's content type is not served here. An empty text renders an empty body."""

    status = 415


class StoreUnavailable(HounsfieldError):
    """Database or object store cannot be reached or refuse to write; the client should retry.

    ``undone``: it is certain that nothing of a write was saved, nor will be.
    """

    status = 503

    def __init__(self, message: str, *, undone: bool = False) -> None:
        super().__init__(message)
        self.undone = undone


class ExternalStoreRefused(StoreUnavailable):
    """The container that somebody else owns does not exist or does not let us in; only its owner can help."""

    status = 424


class SettingsError(HounsfieldError):
    """A setting is missing, misspelt or contradicts another; the message says which and what to do."""


class InternalError(HounsfieldError):
    """Something that must not happen did; details go to the log only."""

    status = 500
