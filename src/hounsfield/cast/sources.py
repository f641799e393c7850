"""Studies that several DICOM servers have: whose an instance is, so that a deletion in one leaves what another has.

An ImagingStudy names its servers in ``endpoint``, and in ``meta.source`` the one it was made for. An instance belongs
to that one unless it says otherwise: then it has a mark, an extension, for each server that has it. Marks are written
only where a second server takes part, so studies of one server look as the reference writes them.
"""

from collections.abc import Iterator, Sequence

from hounsfield.cast.imaging_study import is_ours
from hounsfield.cast.reference import refers_to
from hounsfield.fhir.target import Resource

MARK = "urn:hounsfield:source"
"""URL of the extension; its value is the root of a DICOM server."""


def depends_on_endpoint(study: Resource, root: str) -> bool:
    """Whether a removal has to know which of the study's Endpoints is that of ``root``."""
    return len(study.get("endpoint", [])) > (1 if is_ours(study, root) else 0)


def add(study: Resource, instance: Resource, root: str, endpoint: str, *, is_new: bool) -> None:
    """``root``, whose Endpoint is ``endpoint``, has ``instance`` of ``study``."""
    owner = _owner(study, root, endpoint)
    held = _marks(instance) or ([] if is_new else [owner])
    if root not in held:
        held = [*held, root]
    _mark(instance, [] if held == [owner] else held)


def withdraw(study: Resource, instance: Resource, root: str, endpoint: str) -> bool:
    """``root`` has ``instance`` no longer. Whether it is to be removed: others do not have it."""
    held = _marks(instance)
    if not held:
        return _owner(study, root, endpoint) == root
    rest = [one for one in held if one != root]
    if rest:
        _mark(instance, rest)
    return not rest


def leave(study: Resource, root: str, endpoint: str) -> None:
    """After removals: ``root`` is named no more if it has nothing of a study that others have, too.

    A study that was made for ``root`` becomes one of the first of those.
    """
    if len(study.get("endpoint", [])) < 2:
        return
    owner = _owner(study, root, endpoint)
    held = [_marks(instance) or [owner] for instance in _instances(study)]
    if not held or any(root in one for one in held):
        return
    study["endpoint"] = [one for one in study["endpoint"] if not refers_to(one, endpoint)]
    if is_ours(study, root):
        heir = held[0][0]
        study["meta"] = {**study["meta"], "source": heir}
        for instance in _instances(study):
            if _marks(instance) == [heir]:
                _mark(instance, [])


def _source(study: Resource) -> str:
    return str(study.get("meta", {}).get("source") or "").partition("#")[0]


def _owner(study: Resource, root: str, endpoint: str) -> str:
    """Whose the instances without mark are. A study with no other Endpoint than ours is treated as ours."""
    others = [one for one in study.get("endpoint", []) if not refers_to(one, endpoint)]
    if is_ours(study, root) or not others:
        return root
    if source := _source(study):
        return source
    # A server that does not keep meta.source: whoever made the study is its first Endpoint.
    first: Resource = study["endpoint"][0]
    return str(first.get("reference", "")) if first is others[0] else root


def _instances(study: Resource) -> Iterator[Resource]:
    for series in study.get("series", []):
        yield from series.get("instance", [])


def _marks(instance: Resource) -> list[str]:
    return [str(one.get("valueUri")) for one in instance.get("extension", []) if one.get("url") == MARK]


def _mark(instance: Resource, roots: Sequence[str]) -> None:
    others = [one for one in instance.get("extension", []) if one.get("url") != MARK]
    extensions = [*others, *({"url": MARK, "valueUri": root} for root in roots)]
    if extensions:
        instance["extension"] = extensions
    else:
        instance.pop("extension", None)
