"""Accept negotiation: the tables of retrieve.md §3 and §7."""

import pytest

from hounsfield.errors import NotAcceptable
from hounsfield.web.negotiation import Form, files, frames, require_dicom_json

LE = "1.2.840.10008.1.2.1"
J2K = "1.2.840.10008.1.2.4.90"
MULTIPART_DICOM = 'multipart/related; type="application/dicom"'


def best(chooser: object, *headers: str, **options: bool) -> Form:
    return chooser(headers, **options)[0]  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (MULTIPART_DICOM, Form("application/dicom", True, LE)),
        (f"{MULTIPART_DICOM}; transfer-syntax=*", Form("application/dicom", True, "*")),
        (f'{MULTIPART_DICOM}; transfer-syntax="{J2K}"', Form("application/dicom", True, J2K)),
        ("multipart/related; type=application/dicom; transfer-syntax=*", Form("application/dicom", True, "*")),
        ('Multipart/Related; Type="Application/DICOM"', Form("application/dicom", True, LE)),
        ('multipart/related; type="*/*"', Form("application/dicom", True, "*")),
        (f'multipart/related; type="*/*"; transfer-syntax={LE}', Form("application/dicom", True, LE)),
        ("*/*", Form("application/dicom", True, "*")),
        ("*/*; transfer-syntax=*", Form("application/dicom", True, "*")),
        (f"*/*; transfer-syntax={J2K}", Form("application/dicom", True, J2K)),
        ("", Form("application/dicom", True, "*")),
    ],
)
def test_study_and_series(accept: str, expected: Form) -> None:
    assert best(files, accept, single_part=False) == expected


@pytest.mark.parametrize("accept", ["application/dicom", "application/octet-stream", "image/jpeg", "text/html;q=0"])
def test_study_refuses(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        files([accept], single_part=False)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/dicom", Form("application/dicom", False, LE)),
        ("application/dicom; transfer-syntax=*", Form("application/dicom", False, "*")),
        ("*/*", Form("application/dicom", True, "*")),
    ],
)
def test_instance(accept: str, expected: Form) -> None:
    assert best(files, accept, single_part=True) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ('multipart/related; type="application/octet-stream"', Form("application/octet-stream", True, LE)),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=*",
            Form("application/octet-stream", True, "*"),
        ),
        ("application/octet-stream", Form("application/octet-stream", False, LE)),
        ("application/octet-stream; transfer-syntax=*", Form("application/octet-stream", False, "*")),
        ('multipart/related; type="image/jp2"', Form("image/jp2", True, J2K)),
        # Refused by the reference; served where frames are stored so (retrieve.md [H] 5, 7).
        ('multipart/related; type="image/jp2"; transfer-syntax=*', Form("image/jp2", True, "*")),
        ('multipart/related; type="image/jpeg"', Form("image/jpeg", True, "*")),
        (
            'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.81',
            Form("image/jls", True, "1.2.840.10008.1.2.4.81"),
        ),
        (
            'multipart/related; type="image/dicom-rle"; transfer-syntax=1.2.840.10008.1.2.5',
            Form("image/dicom-rle", True, "1.2.840.10008.1.2.5"),
        ),
        ("*/*", Form("application/octet-stream", True, "*")),
        ('multipart/related; type="*/*"', Form("application/octet-stream", True, "*")),
    ],
)
def test_frames(accept: str, expected: Form) -> None:
    assert best(frames, accept) == expected


@pytest.mark.parametrize(
    "accept",
    [
        "image/jp2",
        f'multipart/related; type="application/octet-stream"; transfer-syntax={J2K}',
        "image/jpeg",
        "image/jls",
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.90',
    ],
)
def test_frames_refuse(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        frames([accept])


def test_quality_orders_and_the_original_wins_among_equals() -> None:
    low, high = f"{MULTIPART_DICOM};q=0.5; transfer-syntax=*", f"{MULTIPART_DICOM};q=0.9"
    assert best(files, low, high, single_part=False).transfer_syntax == LE
    assert best(files, f"{high}, {MULTIPART_DICOM};q=0.9; transfer-syntax=*", single_part=False).transfer_syntax == "*"


def test_unacceptable_entries_are_skipped() -> None:
    assert best(files, f"image/jpeg, {MULTIPART_DICOM};q=0.1", single_part=False).transfer_syntax == LE


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "application/*", "application/json", "Application/DICOM+JSON; charset=x", "text/html, */*;q=0.1"],
)
def test_dicom_json_is_accepted(accept: str) -> None:
    require_dicom_json([accept] if accept else [])


@pytest.mark.parametrize(
    "accept", ["application/dicom", "text/html", "application/data", 'multipart/related; type="*/*"']
)
def test_dicom_json_is_refused_with_an_empty_body(accept: str) -> None:
    with pytest.raises(NotAcceptable) as refusal:
        require_dicom_json([accept])
    assert refusal.value.message == ""
