"""The kept fuzz inputs, without the fuzzer: what broke something once, or reached a corner of the code, works."""

import pytest

from tests.fuzz.corpus import CORPUS, MAX_KEPT_BYTES, MAX_KEPT_FILES, kept
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    inputs = kept(target)
    assert inputs
    for path in inputs:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"input: {path}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    found = seeds(target)
    assert found
    for seed in found:
        TARGETS[target](seed)


def test_the_corpus_stays_small() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for target in TARGETS:
        assert len(kept(target)) <= MAX_KEPT_FILES
        assert sum(path.stat().st_size for path in kept(target)) <= MAX_KEPT_BYTES
