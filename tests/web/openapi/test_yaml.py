from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.web.openapi import to_yaml

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029\ufeff"))
SCALARS = st.none() | st.booleans() | st.integers() | KEYS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(KEYS, JSON, min_size=1))
def test_yaml_says_what_the_json_says(content: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(content)) == content


@pytest.mark.parametrize(
    "text", ["yes", "No", "null", "1", "1.0", "2024-02-29", "a: b", "- a", "#a", "", " ", "*", "{a}", "~"]
)
def test_strings_stay_strings(text: str) -> None:
    assert yaml.safe_load(to_yaml({"a": text, text: "b"})) == {"a": text, text: "b"}


def test_it_is_laid_out_in_blocks() -> None:
    content = {"a": {"b": [{"c": 1, "d": []}, ["x", "y z"]]}, "200": True}
    assert to_yaml(content) == 'a:\n  b:\n    - c: 1\n      d: []\n    - - x\n      - "y z"\n"200": true\n'
