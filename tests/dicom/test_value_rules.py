"""Each row of store.md §3.4 with its exact words, and the two speeds agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.dicom.value_rules import MAX_PLAIN, PLAIN, first_flaw, reason

CS = "value contains invalid character. Only uppercase character, digits, space and underscore alre allowed"
DATE = "one of the date values does not match the pattern YYYYMMDD"
DATE_TIME = "value does not mach pattern YYYY[MM[DD[HH[MM[SS[.F{1-6}]]]]]]"
TIME = "value does not mach pattern HH or HHMM or HHMMSS or HHMMSS.F{1-6}"
CONTROL = "value contains invalid control character"
CHARACTER = "value contains invalid character"


def longer(limit: int) -> str:
    return f"value exceeds maximum length of {limit} characters"


ROWS: list[tuple[str, str, str | None]] = [
    ("AE", "STORE SCP", None),
    ("AE", "A" * 16, None),
    ("AE", "A" * 17, longer(16)),
    ("AE", "   ", "value may not consist only of spaces"),
    ("AE", "", "value may not consist only of spaces"),
    ("AE", "A\nB", CONTROL),
    ("AE", "A\x1bB", CONTROL),
    ("AS", "045Y", None),
    ("AS", "", None),
    ("AS", "45Y", "value does not have pattern 000[DWMY]"),
    ("AS", "045y", "value does not have pattern 000[DWMY]"),
    ("CS", "ORIGINAL_1 X", None),
    ("CS", "", None),
    ("CS", "A" * 17, longer(16)),
    ("CS", "lower", CS),
    ("CS", "A-B", CS),
    ("CS", "Ä", CS),
    ("DA", "20240229", None),
    ("DA", "20240231", None),
    ("DA", "20230101-20231231", None),
    ("DA", "20230101-", None),
    ("DA", "", None),
    ("DA", "2024-02-29", "value contains too many range separators '-'"),
    ("DA", "2024.02.29", DATE),
    ("DA", "202402", DATE),
    ("DA", "20241301", "month component exceeds the value 12"),
    ("DA", "20240132", "day component exceeds the value 31"),
    ("DS", "1.5", None),
    ("DS", " -.5E-3 ", None),
    ("DS", "00.5", None),
    ("DS", "5.", None),
    ("DS", "1" * 17, longer(16)),
    ("DS", "", "value is no decimal string"),
    ("DS", "1,5", "value is no decimal string"),
    ("DS", "1e", "value is no decimal string"),
    ("DT", "2024", None),
    ("DT", "20240229101112.123456+0100", None),
    ("DT", "20240229101112.123456-0700", None),
    ("DT", "20240229-20240301", None),
    ("DT", "20240229101112-0700-20240301101112-0700", None),
    ("DT", "20240229101112-0700-20240301", None),
    ("DT", "20240229-20240301101112-0700", None),
    ("DT", "20240229101160", None),
    ("DT", "", None),
    ("DT", "202", DATE_TIME),
    ("DT", "20240229101112.1234567", DATE_TIME),
    ("DT", "2024 ", None),
    ("DT", "20240229101112-0000", "negative UTC hours component with value -0000 is not allowed"),
    ("DT", "-", "both dateTime components in range cannot be empty"),
    ("DT", "1-2-3-4-5", "value contains too many range separators '-'"),
    ("DT", "2024-2025-2026", "value is in invalid range format"),
    ("DT", "2024+01+00", "value contains too many UTC separators '+' or '-'"),
    ("DT", "2024+01", "value does not match the UTC pattern &ZZXX"),
    ("DT", "2024+1500", "positive UTC hours component exceeds 14 (allowed range is -1200 to +1400)"),
    ("DT", "2024+0160", "UTC minutes component exceeds 59"),
    ("DT", "20241301", "month component exceeds 12"),
    ("DT", "20240001", "month component cannot be 0"),
    ("DT", "20240132", "day component exceeds 31"),
    ("DT", "20240100", "day component cannot be 0"),
    ("DT", "2024010124", "hours component exceeds 23"),
    ("DT", "202401012360", "minutes component exceeds 59"),
    ("DT", "20240101235961", "seconds component exceeds 60"),
    ("IS", " +12 ", None),
    ("IS", "-2147483648", None),
    ("IS", "000000000000012", None),
    ("IS", "", None),
    ("IS", "1.0", "value is not an integer string"),
    ("IS", "1A", "value is not an integer string"),
    ("IS", "2147483648", "value too large to fit 32 bit integer"),
    ("IS", "9" * 5000, "value too large to fit 32 bit integer"),
    ("LO", "a" * 64, None),
    ("LO", "\x1b(Ba", None),
    ("LO", "", None),
    ("LO", "a" * 65, longer(64)),
    ("LO", "a\nb", CHARACTER),
    ("LO", "a\x85b", CHARACTER),
    ("LO", "123\0", CHARACTER),
    ("LT", "a\r\n" * 3413, None),
    ("LT", "a" * 10241, longer(10240)),
    ("PN", "A^B^C^D^E=F=G", None),
    ("PN", "a" * 64 + "=" + "b" * 64, None),
    ("PN", "", None),
    ("PN", "A=B=C=D", "value contains too many groups"),
    ("PN", "a" * 65, longer(64)),
    ("PN", "A\nB", CONTROL),
    ("PN", "A^B^C^D^E^F", "value contains too many components"),
    ("SH", "a" * 16, None),
    ("SH", "a" * 17, longer(16)),
    ("SH", "a\tb", CHARACTER),
    ("SH", "a" * 17 + "\t", CHARACTER),
    ("ST", "a" * 1024, None),
    ("ST", "a" * 1025, longer(1024)),
    ("TM", "10", None),
    ("TM", "101160.123456", None),
    ("TM", "1011-1213", None),
    ("TM", "", None),
    ("TM", "1", TIME),
    ("TM", "10:11:12", TIME),
    ("TM", "101112.1234567", TIME),
    ("TM", "1-2-3", "value contains too many range separators '-'"),
    ("TM", "24", "hour component exceeds 23"),
    ("TM", "1060", "minutes component exceeds 59"),
    ("TM", "101061", "seconds component exceeds 60"),
    ("UI", "1.2.840.10008.1.2", None),
    ("UI", "1.0.3", None),
    ("UI", "1.2 ", None),
    ("UI", "", None),
    ("UI", "1." + "2" * 63, longer(64)),
    ("UI", "1.2.a", "value contains invalid characters other than '0'-'9' and '.'"),
    ("UI", "1.02", "components must not have leading zeros"),
    ("UI", "0.1", "components must not have leading zeros"),
    ("UI", "1..2", "a component can not be empty"),
    ("UI", ".1", "a component can not be empty"),
    ("UI", "1.", "a component can not be empty"),
    ("UC", "\0" * 100_000, None),
    ("UR", "not a uri", None),
    ("UT", "\0", None),
    ("OB", "\0", None),
]


@pytest.mark.parametrize(("vr", "value", "expected"), ROWS)
def test_rules(vr: str, value: str, expected: str | None) -> None:
    assert reason(vr, value) == expected


@pytest.mark.parametrize(("vr", "value", "expected"), ROWS)
def test_plain_expressions_never_pass_what_the_rules_refuse(vr: str, value: str, expected: str | None) -> None:
    if expected and value and vr in PLAIN and len(value) <= MAX_PLAIN:
        assert not PLAIN[vr](value.encode())


@given(st.sampled_from(sorted(PLAIN)), st.text("0123456789.+-eEDWMY AZa_^=\\ \0\n\x1b", max_size=MAX_PLAIN))
def test_plain_implies_valid(vr: str, text: str) -> None:
    if PLAIN[vr](text.encode()):
        assert first_flaw(vr, text.rstrip("\0" if vr == "UI" else " ")) is None


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("AE", "STORE "), ("AS", "045Y"), ("CS", "A\\B "), ("DA", "20240101"), ("DS", "1.5\\-2 "),
        ("DT", "20240101101112"),
        ("IS", "1\\2 "), ("LO", "a\\b"), ("LT", "a\r\nb"), ("PN", "A^B"), ("SH", "a"), ("ST", "a"),
        ("TM", "101112.000000"),
        ("UC", "a"), ("UI", "1.2.3\0"), ("UR", "http://a"), ("UT", "a"),
    ],
)  # fmt: skip
def test_normal_values_take_the_fast_way(vr: str, text: str) -> None:
    assert PLAIN[vr](text.encode())


def test_backslash_is_a_separator_only_where_values_can_be_several() -> None:
    assert first_flaw("SH", "ok\\" + "x" * 17) == ("x" * 17, longer(16))
    assert first_flaw("ST", "a\\" * 500) is None
    assert first_flaw("LO", "") is None


def test_long_hostile_values_are_decided_in_linear_time() -> None:
    for vr, plain in PLAIN.items():
        for text in (
            b" " * 200_000 + b"\1",
            b"1\\" * 100_000 + b"\1",
            b"1 " * 100_000 + b"\1",
            b"1." * 100_000 + b"\1",
        ):
            assert not plain(text) or vr in ("UC", "UR", "UT"), vr
