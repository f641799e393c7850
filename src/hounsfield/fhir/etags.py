"""Versions as HTTP entity tags (FHIR R4 §3.1.0.1.3)."""


def etag(version: int) -> str:
    """A version as a weak entity tag.

    >>> etag(3)
    'W/"3"'
    """
    return f'W/"{version}"'


def etag_matches(header: str, version: int) -> bool:
    """Whether an If-Match or If-None-Match value names ``version``; weak and strong tags count alike.

    >>> etag_matches('W/"2", W/"3"', 3)
    True
    """
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or str(version) in tags
