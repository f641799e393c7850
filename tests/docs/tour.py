"""Runs the examples of a page, in order and in one shell, as a reader would.

What differs from the reader's terminal: the port (also of the client commands' default), the folder (an empty one with
a link to ``samples``), and where ``.venv/bin/hounsfield`` is.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tests.docs.pages import ROOT, blocks

ADDRESS = "http://127.0.0.1:8080"
SECONDS = 180
_DONE = "--- end of example {} ---"


def run(page: Path, root: str, folder: Path) -> list[tuple[str, str, str | None]]:
    """Each example of ``page`` with what it printed and what the page says it prints (None: nothing is said).

    Raises AssertionError with all output if an example fails.
    """
    (folder / "samples").symlink_to(ROOT / "samples")
    examples: list[tuple[str, str | None]] = []
    script = ["set -euo pipefail"]
    for block in blocks(page):
        if block.mark == "prints":
            text, said = examples.pop()
            assert said is None, f"{page.name} says twice what an example prints"
            examples.append((text, block.text.replace(urlsplit(ADDRESS).netloc, urlsplit(root).netloc)))
        elif block.mark == "tour":
            number = len(examples)
            text = block.text.replace(ADDRESS, root).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
            if block.language == "python":
                (folder / f"example{number}.py").write_text(text)
                text = f"{sys.executable} example{number}.py"
            script += [text, f"echo; echo '{_DONE.format(number)}'"]
            examples.append((text, None))
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={
            **os.environ,
            "COLUMNS": "200",
            "HOUNSFIELD_URL": f"{root}/v2",
            "NO_PROXY": "127.0.0.1",
            "XDG_STATE_HOME": str(folder / "state"),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}: an example failed\n{done.stdout}\n{done.stderr}"
    results = []
    rest = done.stdout
    for number, (text, said) in enumerate(examples):
        printed, _, rest = rest.partition(_DONE.format(number) + "\n")
        results.append((text, printed, said))
    return results


def fits(printed: str, said: str) -> bool:
    """Whether output is what a page says: ``…`` stands for anything, blank lines and space at line ends for nothing."""
    lines = [line.rstrip() for line in said.strip().splitlines() if line.strip()]
    pattern = "\n".join(r".*" if line == "…" else re.escape(line).replace("…", r"[^\n]*") for line in lines)
    output = "\n".join(line.rstrip() for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, output, re.S) is not None
