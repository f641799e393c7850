import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hounsfield.dicom import person_name
from hounsfield.dicom.person_name import InvalidNameQuery, NameComponents

# few letters, so that random names and questions meet; with accents, syllables, letters that grow when folded
LETTERS = st.text(st.sampled_from("abÁáßİ。ﬁ.*[(김기が\\|?^= \0-'"), max_size=12)
ANYTHING = st.one_of(LETTERS, st.text(max_size=20))


def test_groups_and_components() -> None:
    name = person_name.parse("Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert name.alphabetic == NameComponents("Yamada", "Tarou")
    assert name.ideographic == NameComponents("山田", "太郎")
    assert name.phonetic == NameComponents("やまだ", "たろう")


def test_all_five_components_lose_their_padding() -> None:
    name = person_name.parse(" Adams ^John Robert^Quincy^Rev.^B.A. M.Div. \0")
    assert name.alphabetic == NameComponents("Adams", "John Robert", "Quincy", "Rev.", "B.A. M.Div.")
    assert name.ideographic == name.phonetic == NameComponents()


def test_what_the_standard_does_not_know_is_left_out() -> None:
    assert person_name.parse("a^b^c^d^e^f=g=h=i").alphabetic == NameComponents("a", "b", "c", "d", "e")
    assert person_name.parse("").alphabetic == NameComponents()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller^Jörg", "MULLER^JORG"),
        ("Müller", "Mu\u0308ller"),
        ("Weiß", "WEISS"),
        ("Doe^John ", "doe^john\0\0"),
        ("Ｙａｍａｄａ", "yamada"),
        ("Λάμδα^Σοφός", "λαμδα^σοφοσ"),
        ("김희중", "\u1100\u1175\u11b7\u1112\u1174\u110c\u116e\u11bc"),
    ],
)
def test_names_that_match_as_a_whole(one: str, other: str) -> None:
    assert person_name.match_key(one) == person_name.match_key(other)


@pytest.mark.parametrize(("one", "other"), [("Doe^John", "Doe John"), ("Doe^John", "Doe^John^"), ("Doe", "Doe=Doe")])
def test_separators_count_in_the_whole_name(one: str, other: str) -> None:
    assert person_name.match_key(one) != person_name.match_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("CT", "ct"), ("X\0", "X"), ("X \0", "x  "), ("É", "e\u0301"), ("ΣΟΦΟΣ", "σοφος")]
)
def test_texts_that_match(one: str, other: str) -> None:
    assert person_name.text_key(one) == person_name.text_key(other)


@pytest.mark.parametrize(("one", "other"), [("É", "E"), (" X", "X"), ("a^b", "a b"), ("Ａ", "A"), ("1.2", "1.20")])
def test_texts_that_do_not_match(one: str, other: str) -> None:
    assert person_name.text_key(one) != person_name.text_key(other)


@given(ANYTHING)
@example("\u0345")
@example("a\u00a0")
def test_a_key_is_its_own_key(value: str) -> None:
    for key in (person_name.match_key, person_name.text_key):
        folded = key(value)
        assert key(folded) == folded == key(value + " \0 ") == key(value.lower())
        assert "\0" not in folded
    assert person_name.words(" ".join(person_name.words(value))) == person_name.words(value)


def test_words_and_suffixes() -> None:
    assert person_name.words("Müller-Lüdenscheidt^Hans  Peter=漢^字") == [
        "muller-ludenscheidt",
        "hans",
        "peter",
        "漢",
        "字",
    ]
    assert person_name.suffixes("Doe^John^Q") == ["doe john q", "john q", "q"]
    assert person_name.suffixes(" ^= ") == []


def fuzzy_match(name: str, asked: str) -> bool:
    """As an index would: the range, then the expression, over every suffix."""
    low, high, regex = person_name.fuzzy_pattern(asked)
    in_range = [suffix for suffix in person_name.suffixes(name) if low <= suffix < high]
    return any(re.search(regex, suffix) for suffix in in_range)


def rule(name: str, asked: str) -> bool:
    """query.md §4, word for word."""
    have, want = person_name.words(name), person_name.words(asked)
    return any(
        all(word.startswith(prefix) for word, prefix in zip(have[start:], want, strict=False))
        for start in range(len(have) - len(want) + 1)
    )


@pytest.mark.parametrize("asked", ["joh", "do", "DO JO", "Doe", "Doe^John", "doe john", "Dö", "q"])
def test_fuzzy_finds(asked: str) -> None:
    assert fuzzy_match("Doe^John^Q", asked)


@pytest.mark.parametrize("asked", ["ohn", "john doe", "do q", "doe john q x", "doej", "d.e", "j*", "doe johnq"])
def test_fuzzy_does_not_find(asked: str) -> None:
    assert not fuzzy_match("Doe^John^Q", asked)


@given(ANYTHING, ANYTHING.filter(lambda asked: bool(person_name.words(asked)) and '"' not in asked))
@example("John^Doe", "jo do")
@example("\ud7ffx", "\ud7ff")
@example("\U0010fffex", "\U0010fffe\U0010ffff")
@example("[^ ]* x", "[^ ]*")
def test_fuzzy_equals_the_rule(name: str, asked: str) -> None:
    assert fuzzy_match(name, asked) == rule(name, asked)


@given(ANYTHING, st.data())
def test_fuzzy_finds_every_run_of_shortened_words(name: str, data: st.DataObject) -> None:
    have = [word for word in person_name.words(name) if '"' not in word]
    if not have or '"' in name:
        return
    start = data.draw(st.integers(0, len(have) - 1))
    end = data.draw(st.integers(start + 1, len(have)))
    asked = "^".join(word[: data.draw(st.integers(1, len(word)))] for word in have[start:end])
    assert fuzzy_match(name, asked)


@given(ANYTHING.filter(lambda asked: bool(person_name.words(asked)) and '"' not in asked), ANYTHING)
def test_for_one_word_the_range_is_enough(asked: str, name: str) -> None:
    word = person_name.words(asked)[0]
    low, high, _ = person_name.fuzzy_pattern(word)
    for suffix in person_name.suffixes(name):
        assert (low <= suffix < high) == suffix.startswith(word)


@pytest.mark.parametrize("asked", ['"', 'do"e', "^", " = ", "\0", ""])
def test_what_cannot_be_looked_for(asked: str) -> None:
    with pytest.raises(InvalidNameQuery):
        person_name.fuzzy_pattern(asked)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("Doe^John", ("doe^john", "", "")),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("yamada^tarou", "山田^太郎", "やまた^たろう")),
        (" Doe ^ John ^^ ", ("doe^john", "", "")),
        ("=山田", ("", "山田", "")),
        ("Ärzte^", ("arzte", "", "")),
        ("a=b=c=d", ("a", "b", "c")),
        ("", ("", "", "")),
    ],
)
def test_groups(name: str, keys: tuple[str, str, str]) -> None:
    assert person_name.group_keys(name) == keys
