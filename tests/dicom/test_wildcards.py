"""Wild cards: what an index is asked for them (PS3.4 §C.2.2.2.4)."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.dicom import wildcards
from hounsfield.dicom.person_name import first_after_prefix, fold_text, text_key


@pytest.mark.parametrize(
    ("value", "prefix", "pattern"),
    [
        ("Smith*", "smith", None),
        ("Smith**", "smith", None),
        ("*Smith", "", "%smith"),
        ("Sm?th", "sm", "sm_th"),
        ("100%*_!?", "100%", "100!%%!_!!_"),
        ("?", "", "_"),
        ("a* ", "a", None),
        ("É*É", "é", "é%é"),
    ],
)
def test_a_prefix_and_what_is_left(value: str, prefix: str, pattern: str | None) -> None:
    assert wildcards.prefix_and_pattern(value, fold_text) == (prefix, pattern)


@pytest.mark.parametrize(("value", "number"), [("ab", 0), ("a*b?", 2), ("***", 1), ("??", 2), ("", 0)])
def test_counting(value: str, number: int) -> None:
    assert wildcards.count(value) == number


@pytest.mark.parametrize(("value", "universal"), [("*", True), ("**", True), ("*?", False), ("", False), ("a*", False)])
def test_universal(value: str, universal: bool) -> None:
    assert wildcards.is_universal(value) == universal


LETTERS = st.text(alphabet="aAbäß%_! ", max_size=6)


@given(LETTERS, LETTERS, st.sampled_from(["*", "?"]), LETTERS)
def test_a_value_matches_itself_with_a_piece_replaced(before: str, piece: str, mark: str, after: str) -> None:
    value = before + (piece if mark == "*" else "x") + after
    asked = before + mark + after
    key = text_key(value)
    prefix, pattern = wildcards.prefix_and_pattern(asked, fold_text)
    if value.rstrip(" ") != value:
        return
    assert key >= prefix
    assert not prefix or key < first_after_prefix(prefix)
    if pattern is not None:
        ((found,),) = sqlite3.connect(":memory:").execute("SELECT ? LIKE ? ESCAPE '!'", (key, pattern)).fetchall()
        assert found == 1
