"""The three levels of the information model that are indexed (PS3.4 C.6.2)."""

from enum import Enum


class Level(Enum):
    """The level a request names, by how many UIDs its path holds."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3
