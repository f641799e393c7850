"""One target under atheris: ``python -m tests.fuzz.harness TARGET [libFuzzer's arguments]``.

With the path of an input for argument it runs that input alone, and shows where it fails.
"""

import shlex
import sys

import atheris

with atheris.instrument_imports(include=["hounsfield"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    _, name, *arguments = sys.argv
    # what merging runs again, through a shell
    itself = f"{shlex.quote(sys.executable)} -m tests.fuzz.harness {shlex.quote(name)}"
    atheris.Setup([itself, *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
