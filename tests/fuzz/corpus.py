"""The kept inputs: small files that together reach as much of the code as a long fuzz run did, and past crashes.

All are made by our own generators (seeds.py) and by fuzzing; ``fixed-…`` are inputs that once broke a target.
"""

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
MAX_KEPT_BYTES = 200_000
MAX_KEPT_FILES = 200
"""Of one target. The smallest are kept: they were found to reach most of the code."""
MAX_LENGTH = 1 << 16
"""Bytes of one fuzz input at most: four windows of the reader."""


def kept(target: str) -> list[Path]:
    """The kept inputs of a target."""
    return sorted((CORPUS / target).iterdir())
