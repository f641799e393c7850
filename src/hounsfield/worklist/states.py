"""The states of a workitem and what may happen in each: PS3.4 Table CC.1.1-2 as the reference has it, as tables."""

from collections.abc import Mapping
from enum import StrEnum

from hounsfield.errors import BadRequest, Conflict


class State(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


_GOES = ""
_FINAL, _CLAIMED, _WRONG_UID = "C300", "C302", "C301"

_UNCLAIMED: Mapping[State, Mapping[State, str]] = {
    State.SCHEDULED: {State.IN_PROGRESS: _GOES, State.COMPLETED: _WRONG_UID, State.CANCELED: _WRONG_UID},
    State.CANCELED: {State.IN_PROGRESS: _FINAL, State.COMPLETED: _WRONG_UID, State.CANCELED: _WRONG_UID},
}
"""Of a workitem that nobody owns: what becomes of a request for each state. Canceled by request, it never had an
owner."""
_OWNED: Mapping[State, Mapping[State, str]] = {
    State.IN_PROGRESS: {State.IN_PROGRESS: _CLAIMED, State.COMPLETED: _GOES, State.CANCELED: _GOES},
    State.COMPLETED: {State.IN_PROGRESS: _FINAL, State.COMPLETED: "B306", State.CANCELED: _FINAL},
    State.CANCELED: {State.IN_PROGRESS: _FINAL, State.COMPLETED: _FINAL, State.CANCELED: "B304"},
}
"""Of a workitem with an owner, whose Transaction UID the request gives."""
_WARNINGS = frozenset(("B304", "B306"))


class TransitionRefused(BadRequest):
    """The workitem cannot go to the state that was asked for; the text ends with the status code of PS3.4."""

    def __init__(self, state: str, code: str) -> None:
        super().__init__(f"The workitem instance can not transition to '{state}' state: {code}.")


class AlreadyCanceled(Conflict):
    """Cancellation was requested of what is canceled."""

    def __init__(self) -> None:
        super().__init__("The UPS is already in the requested state of CANCELED.")


class NotClaimed(BadRequest):
    """An update without the Transaction UID of the owner, or of a workitem that is not there."""

    def __init__(self) -> None:
        super().__init__("The target URI did not reference a claimed Workitem.")


_INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."


def change(state: State, lock: str | None, requested: State, transaction_uid: str) -> str | None:
    """What becomes of the request to go to a state: None where it goes there, else a warning that it is there already.

    ``lock`` is the owner's Transaction UID. Raises TransitionRefused.
    """
    if lock is None:
        code = _UNCLAIMED[state][requested]
    else:
        code = _OWNED[state][requested] if lock == transaction_uid else _WRONG_UID
    if code == _GOES:
        return None
    if code in _WARNINGS:
        return f"The workitem instance is already in the final state '{state}'. {code}."
    raise TransitionRefused(requested, code)


def require_cancelable(state: State, *, owner_listens: bool) -> None:
    """Raise TransitionRefused or AlreadyCanceled where a request to cancel can neither be met nor passed on.

    ``owner_listens``: somebody is connected who subscribes to the workitem, so its owner can be told.
    """
    if state is State.CANCELED:
        raise AlreadyCanceled
    if state is State.COMPLETED or (state is State.IN_PROGRESS and not owner_listens):
        raise TransitionRefused("Canceled", "C312" if state is State.IN_PROGRESS else "C311")


def require_updatable(state: State, lock: str | None, transaction_uid: str | None) -> None:
    """Raise what an update with this Transaction UID (None: without one) is refused with."""
    if state is State.SCHEDULED and transaction_uid is not None:
        raise BadRequest("Invalid TransactionUID for the specified Workitem Instance UID.")
    if state is State.IN_PROGRESS and (transaction_uid is None or transaction_uid != lock):
        raise NotClaimed
    if state is State.COMPLETED:
        raise BadRequest(f"{_INCONSISTENT} The UPS is already COMPLETED.")
    if state is State.CANCELED:
        raise Conflict(f"{_INCONSISTENT} The UPS is already in the requested state of CANCELED.")
