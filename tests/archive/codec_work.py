"""Work that the tests give to codec processes; imported there, so it imports little."""

import os
import signal
import time
from pathlib import Path

from hounsfield.archive.codec_process import still_alive
from hounsfield.errors import NotFound


def double(data: bytes) -> bytes:
    return data + data


def pid() -> bytes:
    return str(os.getpid()).encode()


def crash() -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    return b""


def sleep(seconds: float) -> bytes:
    time.sleep(seconds)
    return b"slept"


def sleep_noting(folder: str, seconds: float) -> bytes:
    Path(folder, str(os.getpid())).touch()
    return sleep(seconds)


def be_killed(folder: str) -> bytes:
    Path(folder, str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def sleep_with_signs_of_life(seconds: float) -> bytes:
    for _ in range(4):
        time.sleep(seconds / 4)
        still_alive()
    return b"slept"


def refuse() -> bytes:
    raise NotFound("There is no such frame.")


def fail(secret: str) -> bytes:
    raise KeyError(secret)


def allocate(size: int) -> bytes:
    return bytes(bytearray(size)[:1])


def niceness() -> bytes:
    return str(os.nice(0)).encode()
