import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.web.content_type import MalformedMediaType, boundary_of, parse_content_type


@pytest.mark.parametrize(
    ("value", "media_type", "parameters"),
    [
        ("application/dicom", "application/dicom", {}),
        (" Application/DICOM ", "application/dicom", {}),
        ("application/dicom;", "application/dicom", {}),
        ("application/dicom; transfer-syntax=*", "application/dicom", {"transfer-syntax": "*"}),
        (
            'multipart/related; type="application/dicom"; boundary="a b;c"',
            "multipart/related",
            {"type": "application/dicom", "boundary": "a b;c"},
        ),
        (
            "multipart/related;type=application/dicom;boundary=x=y",
            "multipart/related",
            {"type": "application/dicom", "boundary": "x=y"},
        ),
        ("multipart/related; BOUNDARY=Ab ; ; x=1", "multipart/related", {"boundary": "Ab", "x": "1"}),
        (r'a/b; c="say \"hi\" \\ there"', "a/b", {"c": r'say "hi" \ there'}),
        ("a/b; c=1; C=2", "a/b", {"c": "1"}),
        ('a/b; c=""', "a/b", {"c": ""}),
        ("application/vnd.x+json;\tq=0.5", "application/vnd.x+json", {"q": "0.5"}),
    ],
)
def test_parses(value: str, media_type: str, parameters: dict[str, str]) -> None:
    assert parse_content_type(value) == (media_type, parameters)


@pytest.mark.parametrize(
    "value",
    ["", "multipart", "multipart/", "/related", "a/b c", "a b/c", "a/b; c", 'a/b; c="x', 'a/b; c="x"y', "a/b; =x"],
)
def test_refuses(value: str) -> None:
    with pytest.raises(MalformedMediaType):
        parse_content_type(value)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), st.text(st.characters(codec="latin-1"))),
)
def test_quoted_parameters_survive(parameters: dict[str, str]) -> None:
    quoted = (
        f'{name}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in parameters.items()
    )
    assert parse_content_type("; ".join(["multipart/related", *quoted])) == ("multipart/related", parameters)


@pytest.mark.parametrize(
    "value", ["a/b;" + " " * 60_000 + "=", "a/b; c=" + " " * 60_000 + '"', 'a/b; c="' + "\\" * 60_001]
)
def test_hostile_values_take_linear_time(value: str) -> None:
    started = time.process_time()
    with pytest.raises(MalformedMediaType):
        parse_content_type(value)
    assert time.process_time() - started < 2  # seconds; quadratic time would be minutes


@pytest.mark.parametrize("boundary", ["b", "x" * 70, "=_Part 1'()+,-./:?", "a<b>{c}"])
def test_boundary_is_taken_as_it_is(boundary: str) -> None:
    assert boundary_of({"boundary": boundary}) == boundary.encode()


@pytest.mark.parametrize("boundary", ["", "x" * 71, "ends with space ", "line\r\nbreak", "umlaut-ä", "nul\0"])
def test_unusable_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(MalformedMediaType, match="1 to 70"):
        boundary_of({"boundary": boundary})


def test_missing_boundary_is_refused() -> None:
    with pytest.raises(MalformedMediaType, match="no boundary"):
        boundary_of({})
