"""What a server costs: processor time and memory of its whole process tree, read from /proc.

Processor time counts every process of the tree and the children it has already buried. Memory is the proportional
set size (shared pages are split between those who share them), so a server of many processes is not charged twice for
the same code.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.25
"""Memory sampling interval, where looking is quick."""
SAMPLING_SHARE = 0.01
"""Of one processor, for looking at memory: a server of several processes takes longer to look at than one of one, and
pays for it as nothing of it can run while its pages are counted."""
QUIET_SHARE = 0.04
"""Of one processor: the accounting knows hundredths of a second, and one of them in a window is no work."""
QUIET_WINDOW_SECONDS = 0.3
LISTENING = "0A"

Roots = Callable[[], Iterable[int]]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the command name (state is the first), None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(roots: Iterable[int]) -> set[int]:
    """``roots`` and all their descendants alive now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor seconds (user and system) used so far by the tree below ``roots``."""
    ticks = 0
    for pid in tree(roots):
        if (fields := _stat(pid)) is not None:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def busy_seconds() -> float:
    """Processor seconds the whole machine has worked so far: all processors, everything but idling and waiting."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / TICKS


def stolen_seconds() -> float:
    """Processor seconds that other machines on the same host have taken from this one so far: all processors."""
    return int(Path("/proc/stat").read_text().split()[8]) / TICKS


def memory_bytes(roots: Iterable[int]) -> int:
    """Proportional set size of the tree below ``roots``."""
    total = 0
    for pid in tree(roots):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total * 1024


def listeners(port: int) -> set[int]:
    """Processes that hold a listening socket of TCP ``port`` on this machine and may be seen by this user."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return {int(name) for name in os.listdir("/proc") if name.isdigit() and inodes & set(_descriptors(name))}


def _descriptors(pid: str) -> list[str]:
    try:
        return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def wait_until_quiet(roots: Roots, limit_seconds: float) -> bool:
    """Waits until the tree uses next to no processor; False when it was still busy at the limit."""
    deadline = time.monotonic() + limit_seconds
    used = cpu_seconds(roots())
    while time.monotonic() < deadline:
        time.sleep(QUIET_WINDOW_SECONDS)
        now = cpu_seconds(roots())
        if now - used <= QUIET_SHARE * QUIET_WINDOW_SECONDS:
            return True
        used = now
    return False


def free_port() -> int:
    """A TCP port of the loopback interface nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MemoryWatch:
    """Context: ``peak`` is the largest memory of the tree seen between entering and leaving."""

    def __init__(self, roots: Roots) -> None:
        self.peak = 0
        self._roots = roots
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        pause = SAMPLE_SECONDS
        while not self._stopped.wait(pause):
            began = time.thread_time()
            self._look()
            pause = max(SAMPLE_SECONDS, (time.thread_time() - began) / SAMPLING_SHARE)

    def _look(self) -> None:
        self.peak = max(self.peak, memory_bytes(self._roots()))
