"""What a workitem becomes when its cancellation is requested (worklist.md, Request cancellation; PS3.4 §CC.2.2)."""

from hounsfield.dicom.dictionary import key_of
from hounsfield.worklist.dataset import PROCEDURE_STEP_STATE, Dataset, element, items, now, text
from hounsfield.worklist.states import State

REASON_FOR_CANCELLATION = key_of("ReasonForCancellation")
CONTACT_URI = key_of("ContactURI")
CONTACT_DISPLAY_NAME = key_of("ContactDisplayName")
DISCONTINUATION_REASON_CODE_SEQUENCE = key_of("ProcedureStepDiscontinuationReasonCodeSequence")
_CANCELLATION_DATE_TIME = key_of("ProcedureStepCancellationDateTime")
_COMMUNICATIONS_URI_SEQUENCE = key_of("ProcedureStepCommunicationsURISequence")
PROGRESS_INFORMATION_SEQUENCE = key_of("ProcedureStepProgressInformationSequence")
_PERFORMED_PROCEDURE_SEQUENCE = key_of("UnifiedProcedureStepPerformedProcedureSequence")

ACCEPTED = "The workitem instance has been cancelled."
"""The answer to a request that was met at once."""
PASSED_ON = "The request to cancel has been passed on to the owner of the workitem instance."
"""The answer to one that the owner is told of."""


def canceled(dataset: Dataset, request: Dataset) -> Dataset:
    """The dataset of a workitem canceled by ``request``, with the reason and whom to ask."""
    moment = element("DT", now())
    reason = element("LT", text(request, REASON_FOR_CANCELLATION))
    # Codes where the request has them; the reference puts the text of the reason in their place.
    codes = items(request, DISCONTINUATION_REASON_CODE_SEQUENCE) or [{REASON_FOR_CANCELLATION: reason}]
    reasons = {"vr": "SQ", "Value": codes}
    contact = {
        CONTACT_URI: element("UR", text(request, CONTACT_URI)),
        CONTACT_DISPLAY_NAME: element("LO", text(request, CONTACT_DISPLAY_NAME)),
    }
    progress = {
        _CANCELLATION_DATE_TIME: moment,
        REASON_FOR_CANCELLATION: reason,
        _COMMUNICATIONS_URI_SEQUENCE: {"vr": "SQ", "Value": [contact]},
        DISCONTINUATION_REASON_CODE_SEQUENCE: reasons,
    }
    changed = dataset | {
        _CANCELLATION_DATE_TIME: moment,
        PROCEDURE_STEP_STATE: element("CS", State.CANCELED.value),
        DISCONTINUATION_REASON_CODE_SEQUENCE: reasons,
        PROGRESS_INFORMATION_SEQUENCE: {"vr": "SQ", "Value": [dict(sorted(progress.items()))]},
    }
    if _PERFORMED_PROCEDURE_SEQUENCE in request:
        changed[_PERFORMED_PROCEDURE_SEQUENCE] = request[_PERFORMED_PROCEDURE_SEQUENCE]
    return changed
