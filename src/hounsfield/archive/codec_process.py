"""What runs in a codec process (see codec_processes): one piece of work after another, until nobody wants more."""

import ctypes
import os
import pickle
import resource
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from hounsfield.archive.codec_processes import JOIN_BYTES, MESSAGE, Reply
from hounsfield.errors import HounsfieldError, NotAcceptable

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"
_parent: socket.socket | None = None
_SIGN_SECONDS = 0.2
"""Pause between signs of life: each of them wakes the other process."""
_last_sign = 0.0


def still_alive() -> None:
    """Tell whoever waits that the work goes on, if that was not said just now: each sign starts the time limit anew.

    Nothing in another process.
    """
    global _last_sign
    now = time.monotonic()
    if _parent is not None and now - _last_sign >= _SIGN_SECONDS:
        _last_sign = now
        _parent.sendall(MESSAGE.pack(Reply.ALIVE, 0))


def serve(parent: socket.socket) -> None:
    """Work until the other end is closed."""
    global _parent
    _parent = parent
    while (head := _received(parent, MESSAGE.size)) is not None:
        request = _received(parent, MESSAGE.unpack(head)[1])
        if request is None:
            return
        kind, body = _answer(request)
        del request
        announced = MESSAGE.pack(kind, len(body))
        if len(body) <= JOIN_BYTES:
            parent.sendall(announced + body)
        else:
            parent.sendall(announced)
            parent.sendall(body)


def _answer(request: bytearray) -> tuple[Reply, bytes]:
    try:
        function, arguments = pickle.loads(request)  # noqa: S301 - from our own parent, over a socket nobody else has
        return Reply.RESULT, function(*arguments)
    except HounsfieldError as error:
        return Reply.REFUSED, f"{_public_class(error)} {error.message}".encode()
    except MemoryError:
        return Reply.REFUSED, f"{NotAcceptable.__name__} The image needs too much memory.".encode()
    except Exception as error:
        # Class and place only: the text of a foreign error may quote the file.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return Reply.BROKEN, f"- {type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}".encode()


def _public_class(error: HounsfieldError) -> str:
    """The class of hounsfield.errors that the parent knows the error by."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__base__ is HounsfieldError)


def _received(parent: socket.socket, length: int) -> bytearray | None:
    """``length`` bytes; None if the other end is closed."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        count = parent.recv_into(view[at:])
        if count == 0:
            return None
        at += count
    return data


def _settle(parent: int, memory_bytes: int, niceness: int) -> None:
    """Take as little as possible, and do not outlive the process that asked."""
    # Ctrl-C reaches the whole process group; the parent decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(niceness)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit
        # If memory runs out, this is what the kernel should end.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold pictures of patients


if __name__ == "__main__":
    descriptor, parent_pid, memory, nice = map(int, sys.argv[1:])
    _settle(parent_pid, memory, nice)
    # As the module that others import: still_alive() is asked for there.
    from hounsfield.archive import codec_process

    with socket.socket(fileno=descriptor) as connection, suppress(BrokenPipeError, ConnectionResetError):
        codec_process.serve(connection)
