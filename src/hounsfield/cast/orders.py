"""Orders in FHIR: the ServiceRequest that a study or a workitem is based on, found by a number of the order.

Numbers are compared without a system: those who write them into DICOM and those who write them into FHIR name the
system differently, or not at all. So an order is linked only where it is the one of that number and of that patient.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable

from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.reference import Parameters, batches, escape, local_reference, refers_to
from hounsfield.fhir.target import Resource

Search = Callable[[str, Parameters], Awaitable[list[Resource]]]
Orders = dict[str, list[Resource]]
"""ServiceRequests by number."""


async def look_up(search: Search, numbers: Collection[str]) -> Orders:
    """ServiceRequests with one of these numbers. Raises what ``search`` raises, but for EntryRefused."""
    found: Orders = {}
    for some in batches(numbers):
        for order in await _search(search, some):
            for value in {identifier.get("value") for identifier in order.get("identifier", [])}.intersection(some):
                found.setdefault(value, []).append(order)
    return found


async def _search(search: Search, numbers: list[str]) -> list[Resource]:
    """None on a server that does not know the type or the search."""
    try:
        return await search("ServiceRequest", [("identifier", ",".join(map(escape, numbers)))])
    except EntryRefused:
        return []


def order_of(orders: Orders, numbers: Iterable[str], patient: object) -> str | None:
    """The only order with one of these numbers whose subject is the one of ``patient``, a Reference; its name."""
    literal = patient.get("reference", "") if isinstance(patient, dict) else ""
    subject = "/".join(str(literal).split("/")[-2:])
    names = {
        local_reference(one)
        for number in numbers
        for one in orders.get(number, [])
        if refers_to(one.get("subject"), subject)
    }
    return names.pop() if len(names) == 1 else None


def merge(resource: Resource, identifier: Resource, order: str | None) -> None:
    """Have ``basedOn`` name the order of an identifier: ``order`` is its name, None where FHIR holds none."""
    listed = resource.setdefault("basedOn", [])
    ours = next((one for one in listed if one.get("identifier") == identifier), None)
    if ours is None:
        if order is not None and any(refers_to(one, order) for one in listed):
            return
        ours = {"type": "ServiceRequest", "identifier": identifier}
        listed.append(ours)
    if order is None:
        ours.pop("reference", None)
    elif not refers_to(ours, order):
        ours["reference"] = order
