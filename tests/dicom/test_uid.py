import pytest

from hounsfield.dicom import uid


@pytest.mark.parametrize(
    "value",
    ["1.2.840.10008.1.2", "1", "0", "1.02.3", "1..2", ".1", "1.2.3 ", "1.2.3   ", "9" * 64, "9" * 64 + "  "],
)
def test_accepts_what_the_reference_accepts(value: str) -> None:
    assert uid.is_valid(value)


@pytest.mark.parametrize(
    "value",
    ["", " ", ".", "1.2.", "1.2.a", "1-2", "1 2", " 1.2", "1.2\0", "1.2\n", "9" * 65, "１.２", "1.2/3", "٣"],
)
def test_refuses_everything_else(value: str) -> None:
    assert not uid.is_valid(value)


@pytest.mark.parametrize("value", ["1.2.3", "1.2.3 ", "1.2.3\0", "1.2.3 \0 \0"])
def test_padding_does_not_tell_uids_apart(value: str) -> None:
    assert uid.normalise(value) == "1.2.3"
