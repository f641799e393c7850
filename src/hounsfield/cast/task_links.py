"""Tasks that lead to a study which is going to be deleted: they must not any more, or a server refuses to delete it."""

from collections.abc import Awaitable, Callable, Iterable

from hounsfield.cast import task
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.orders import Search
from hounsfield.cast.transaction import MAX_FOLLOWERS, Plan, Written, update_entry


async def releases(written: Iterable[Written], search: Search, is_linked: Callable[[], Awaitable[bool]]) -> list[Plan]:
    """What to send before ``written``: transactions of a size that every server takes, none where no study goes.

    FHIR is asked only if ``is_linked`` says that a Task may lead to the study: whoever casts no workitems need not be
    allowed to read Tasks. Raises what ``search`` raises, but for EntryRefused.
    """
    updates: list[Written] = []
    for one in written:
        if one.method == "DELETE" and one.resource_type == "ImagingStudy" and await is_linked():
            study = one.entry["request"]["url"]
            try:
                found = await search("Task", [("focus", study)])
            except EntryRefused:
                continue
            after = ((each, task.released(each, study)) for each in found)
            updates += [update_entry(each, changed) for each, changed in after if changed is not None]
    starts = range(0, len(updates), MAX_FOLLOWERS)
    return [Plan(updates[start : start + MAX_FOLLOWERS], [], 0, {}) for start in starts]
