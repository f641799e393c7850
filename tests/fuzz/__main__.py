"""``make fuzz``: coverage-guided random inputs (atheris) for each target, within limits of time and memory.

    python -m tests.fuzz [--seconds 60] [--keep] [TARGET …]

Inputs found interesting are gathered in build/fuzz/<target> and are where the next run begins, together with the kept
ones in tests/fuzz/corpus/<target>. ``--keep`` makes the kept ones the smallest set that reaches the same code.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.corpus import CORPUS, MAX_KEPT_BYTES, MAX_KEPT_FILES, MAX_LENGTH
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

RSS_LIMIT_MB = 1024
"""Python and the server's modules take about 90 of them."""
TIMEOUT = 10
"""Seconds for one input, instrumented: far more than any of at most 64 KiB may take."""
FOUND = Path("build") / "fuzz"


def main() -> int:
    """Runs the targets one after the other; 1 if any input broke one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--keep", action="store_true", help="make the kept inputs anew from these and what was found")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    broken = [name for name in asked.targets or TARGETS if not _run(name, asked.seconds)]
    if asked.keep and not broken:
        for name in asked.targets or TARGETS:
            _keep(name)
    for name in broken:
        print(f"{name}: broken; the input and how to run it again stand above", file=sys.stderr)
    return 1 if broken else 0


def _run(name: str, seconds: int) -> bool:
    """One target in a process of its own, which ends at the first input that breaks it."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for number, seed in enumerate(seeds(name)):
            Path(directory, f"seed-{number}").write_bytes(seed)
        print(f"== {name}: {seconds} s", flush=True)
        ended = _fuzzer(
            name,
            f"-max_total_time={seconds}",
            f"-max_len={MAX_LENGTH}",
            f"-timeout={TIMEOUT}",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
            f"-artifact_prefix={found}-",
            "-print_final_stats=1",
            str(found),
            str(CORPUS / name),
            directory,
        )
    if ended == 0:
        return True
    print(
        f"\n{name} was broken by the input libFuzzer has written (see above). To see it again:\n"
        f"    python -m tests.fuzz.harness {name} {found}-…\n"
        f"When it is fixed, move the input to tests/fuzz/corpus/{name}/fixed-…: the tests run it from then on.",
        file=sys.stderr,
    )
    return False


def _keep(name: str) -> None:
    """Replaces the kept inputs by the smallest ones that reach all that kept and found ones reach; crashes stay."""
    kept = CORPUS / name
    with tempfile.TemporaryDirectory() as directory:
        if _fuzzer(name, "-merge=1", f"-max_len={MAX_LENGTH}", directory, str(kept), str(FOUND / name)) != 0:
            raise SystemExit(f"{name}: merging failed")
        found = sorted(Path(directory).iterdir(), key=lambda path: (path.stat().st_size, path.name))
        if not found:
            raise SystemExit(f"{name}: merging left nothing")
        for path in kept.iterdir():
            if not path.name.startswith("fixed-"):
                path.unlink()
        fixed = list(kept.iterdir())
        left = MAX_KEPT_BYTES - sum(path.stat().st_size for path in fixed)
        for path in found[: MAX_KEPT_FILES - len(fixed)]:
            left -= path.stat().st_size
            if left >= 0:
                shutil.copy(path, kept)


def _fuzzer(name: str, *arguments: str) -> int:
    command = [sys.executable, "-m", "tests.fuzz.harness", name, *arguments]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
