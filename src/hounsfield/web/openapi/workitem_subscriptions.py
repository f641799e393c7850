"""Subscriptions to workitems in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.web.openapi.components import UNAVAILABLE, operation, problem, query, response
from hounsfield.web.openapi.schemas import Json

_TAG = "Worklist"
_ONE = "/workitems/{workitemInstanceUid}/subscribers/{aetitle}"

SUBSCRIPTION_HEADERS: Json = {
    "NotificationConnection": {
        "description": "Where to open the WebSocket of the notification connection.",
        "schema": {"type": "string", "format": "uri"},
    },
}

_RESOURCES = (
    "In place of a workitem's UID, `1.2.840.10008.5.1.4.34.5` is the whole worklist and `1.2.840.10008.5.1.4.34.5.1` "
    "what meets a filter."
)


def subscription_operations() -> Iterator[tuple[str, str, Json]]:
    """The five of them; the same in every version."""
    bad = {"400": problem("The UID, the AE title or a query parameter is invalid.")}
    unknown = {"404": problem("There is no such workitem or subscription.")}

    located = {"Content-Location": "NotificationConnection"}
    responses = {"201": response("It is subscribed.", headers=located), **bad, **unknown, **UNAVAILABLE}
    more: Json = {
        "description": f"{_RESOURCES} What it covers is told first, each workitem with its state.",
        "parameters": [
            query("deletionlock", "Whether workitems are to stay; they always do.", type="boolean", default=False),
            query("filter", "For the filter: `attribute=value`, separated by commas.", type="string"),
        ],
    }
    yield _ONE, "post", operation(_TAG, "SubscribeWorkitem", "Subscribe", responses, **more)

    responses = {"200": response("It is over."), **bad, **unknown, **UNAVAILABLE}
    more = {"description": _RESOURCES}
    yield _ONE, "delete", operation(_TAG, "UnsubscribeWorkitem", "Unsubscribe", responses, **more)

    refused = {"403": problem("A web page of another origin asks, which the settings of CORS do not allow.")}
    responses = {
        "101": response("A WebSocket; each message is an event report in the DICOM JSON Model (PS3.18 §11.13)."),
        "400": problem("The AE title is invalid, or the request does not ask for a WebSocket."),
        **refused,
        **unknown,
        **UNAVAILABLE,
    }
    for path, name in ((_ONE, "OpenNotificationConnection"), ("/subscribers/{aetitle}", "OpenConnectionOfSubscriber")):
        yield path, "get", operation(_TAG, name, "Open the notification connection of a subscriber", responses)

    responses = {"200": response("Nothing new is added."), **bad, **unknown, **UNAVAILABLE}
    more = {"description": "For the two worklists. What they cover already they go on to cover."}
    path = f"{_ONE}/suspend"
    yield path, "post", operation(_TAG, "SuspendWorklistSubscription", "Suspend a subscription", responses, **more)
