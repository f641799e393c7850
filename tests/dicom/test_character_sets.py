"""Specific Character Set: PS3.5's own examples (annexes H, I, J, K), and values no set explains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import python_encoding

from hounsfield.dicom.character_sets import decode, encodings_of


def text(raw: bytes, *terms: str) -> str:
    return decode(raw, encodings_of(terms))


@pytest.mark.parametrize(
    ("terms", "raw", "expected"),
    [
        (("ISO_IR 100",), b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
        (("ISO_IR 144",), "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (("ISO_IR 192",), "Wang^XiaoDong=王^小东".encode(), "Wang^XiaoDong=王^小东"),
        (("GB18030",), "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        (("GB18030",), "倄\\倅".encode("gb18030"), "倄\\倅"),
        (("GBK",), "倄".encode("gbk"), "倄"),
        (("ISO_IR 13",), b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (
            ("", "ISO 2022 IR 87"),
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            ("ISO 2022 IR 13", "ISO 2022 IR 87"),
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        ),
        (
            ("", "ISO 2022 IR 149"),
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (
            ("", "ISO 2022 IR 58"),
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东=",
        ),
        (("ISO 2022 IR 100", "ISO 2022 IR 144"), b"J\xe9r\x1b-L\xbb\xee\\J\xe9r", "JérЛю\\Jér"),
        (("", "ISO 2022 IR 100"), b"\x1b-AJ\xe9r\xf4me", "Jérôme"),
    ],
)
def test_sets(terms: tuple[str, ...], raw: bytes, expected: str) -> None:
    assert text(raw, *terms) == expected


@pytest.mark.parametrize("term", ["ISO_IR 144", "ISO-IR 144", "ISO IR 144", "iso_ir_144", "ISO_IR144", " ISO_IR 144 "])
def test_usual_misspellings(term: str) -> None:
    assert text(b"\xbb", term) == "Л"


def test_utf8_by_another_name() -> None:
    assert text("é".encode(), "UTF-8") == "é"


@pytest.mark.parametrize("terms", [(), ("",), ("ISO_IR 6",), ("KLINGON",)])
def test_default(terms: tuple[str, ...]) -> None:
    assert text(b"A\xe9", *terms) == "Aé"


def test_sets_without_code_extensions_ignore_further_terms() -> None:
    assert encodings_of(("ISO_IR 192", "ISO 2022 IR 87")) == ("UTF8",)
    assert encodings_of(("", "GB18030", "ISO 2022 IR 87")) == ("latin_1", "iso2022_jp")


def test_what_does_not_decode_is_replaced() -> None:
    assert text(b"a\xff", "ISO_IR 192") == "a\ufffd"
    assert "\ufffd" in text(b"\x1b$B\xff\xfe", "", "ISO 2022 IR 87")


def test_an_escape_nobody_announced_stays() -> None:
    assert text(b"a\x1b-Lb", "ISO_IR 100") == "a\x1b-Lb"


@given(st.lists(st.sampled_from([*python_encoding, "KLINGON"]), max_size=3), st.binary(max_size=60))
def test_any_bytes_in_any_sets(terms: list[str], raw: bytes) -> None:
    assert isinstance(text(raw, *terms), str)
    assert isinstance(text(raw + b"\x1b" + raw + b"\x1b$)C" + raw + b"\x1b$B" + raw, *terms), str)
