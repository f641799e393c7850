"""Listings of local files: sorted like keys, whatever the tree, page by page."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.storage import listing

NAME = st.text("ab.0-", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
KEY = st.lists(NAME, min_size=1, max_size=4).map("/".join)


def without_clashes(keys: set[str]) -> list[str]:
    """A name cannot be a file and a directory."""
    return [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)]


@settings(deadline=None, max_examples=60)
@given(
    keys=st.sets(KEY, max_size=25).map(without_clashes), start_after=st.one_of(st.just(""), KEY), page=st.integers(1, 4)
)
def test_a_listing_equals_the_sorted_keys(keys: list[str], start_after: str, page: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "PAGE", page)
        root = Path(directory)
        for key in keys:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_text(key)
        found = list(listing.objects(root, "", start_after))
        assert [row.key for row in found] == sorted(key for key in keys if key > start_after)
        assert [row.size for row in found] == [len(row.key) for row in found]


def test_files_may_vanish_meanwhile(tmp_path: Path) -> None:
    for name in ("a/1", "a/2", "b/1", "c/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = listing.objects(tmp_path, "", "")
    assert next(found).key == "a/1"
    (tmp_path / "a/2").unlink()
    (tmp_path / "b/1").unlink()
    (tmp_path / "b").rmdir()
    assert [row.key for row in found] == ["c/1"]


def test_temporaries_are_found_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    for name in (".tmp-1", "a/.tmp-2", "a/b/.tmp-3", "a/b/object"):
        (tmp_path / name).touch()
    assert {path.name for path in listing.temporaries(tmp_path)} == {".tmp-1", ".tmp-2", ".tmp-3"}
