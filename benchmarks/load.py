"""Clients at work: one process each, started together, stopped together.

Processes, not threads, so that clients do not wait for each other's interpreter lock; forked, so that prepared
requests are shared and not copied.
"""

import math
import multiprocessing
import resource
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Protocol

from benchmarks.processes import MemoryWatch, Roots, busy_seconds, cpu_seconds

PATIENCE_SECONDS = 600.0
"""Longest time a client may need beyond its time for the request it is in."""


class WrongAnswer(Exception):
    """A server answered, but not with what it was asked for. Ends the run: a fast wrong answer is no figure."""


class Client(Protocol):
    """One user of a server; made, connected and prepared before the clock starts."""

    def step(self) -> int:
        """One request and its check; returns how many items it was worth."""

    def finish(self) -> None:
        """Checks after the clock has stopped."""


@dataclass(frozen=True)
class Sample:
    """One round of one workload on one server. Rates are items a second, times seconds, memory bytes."""

    rate: float
    items: int
    requests: int
    median_latency: float
    p95_latency: float
    server_cpu: float
    client_cpu: float
    peak_memory: int
    seconds: float
    elsewhere: float
    """Processor seconds used meanwhile by neither server nor clients: other programs, and the kernel's own threads."""


@dataclass(frozen=True)
class _Tally:
    items: int
    seconds: float
    latencies: list[float]
    cpu: float


def drive(make: Callable[[int], Client], clients: int, seconds: float, roots: Roots) -> Sample:
    """Lets ``clients`` clients work for ``seconds`` each and finish the request they are in.

    The rate is everything done over the time until the last client was done: a server that lets some clients wait for
    the others gains nothing by it. Raises WrongAnswer with the first client's trouble.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(clients + 1)
    pipes = []
    children = []
    for index in range(clients):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(make, index, seconds, barrier, sender), daemon=True)
        child.start()
        sender.close()
        pipes.append(receiver)
        children.append(child)
    server_cpu = machine_cpu = 0.0
    watch = MemoryWatch(roots)
    try:
        barrier.wait(PATIENCE_SECONDS)
        server_before, machine_before = cpu_seconds(roots()), busy_seconds()
        with watch:
            barrier.wait(seconds + PATIENCE_SECONDS)
        server_cpu, machine_cpu = cpu_seconds(roots()) - server_before, busy_seconds() - machine_before
        barrier.wait(PATIENCE_SECONDS)
    except threading.BrokenBarrierError:
        pass  # a client says why below
    results = [_received(pipe) for pipe in pipes]
    for child in children:
        child.join()
    troubles = [result for result in results if isinstance(result, str)]
    if troubles:
        raise WrongAnswer(next((trouble for trouble in troubles if "BrokenBarrier" not in trouble), troubles[0]))
    return _sample([result for result in results if isinstance(result, _Tally)], server_cpu, machine_cpu, watch.peak)


def _received(pipe: Connection) -> _Tally | str:
    try:
        result: _Tally | str = pipe.recv()
    except EOFError:
        return "a client process died"
    return result


def _work(make: Callable[[int], Client], index: int, seconds: float, barrier: Barrier, pipe: Connection) -> None:
    result: _Tally | str = "a client was told to end"
    try:
        client = make(index)
        barrier.wait(PATIENCE_SECONDS)
        tally = _timed(client, seconds)
        barrier.wait(PATIENCE_SECONDS)
        barrier.wait(PATIENCE_SECONDS)
        client.finish()
        result = tally
    except WrongAnswer as error:
        result = str(error)
    except Exception:  # whatever it is, the parent process must hear of it
        result = traceback.format_exc()
    finally:
        if isinstance(result, str):
            barrier.abort()
        pipe.send(result)


def _timed(client: Client, seconds: float) -> _Tally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    latencies = []
    items = 0
    start = last = time.perf_counter()
    while last - start < seconds:
        items += client.step()
        now = time.perf_counter()
        latencies.append(now - last)
        last = now
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime
    return _Tally(items, last - start, latencies, cpu)


def _sample(tallies: list[_Tally], server_cpu: float, machine_cpu: float, memory: int) -> Sample:
    latencies = sorted(latency for tally in tallies for latency in tally.latencies)
    client_cpu = sum(tally.cpu for tally in tallies)
    items, seconds = sum(tally.items for tally in tallies), max(tally.seconds for tally in tallies)
    return Sample(
        rate=items / seconds,
        items=items,
        requests=len(latencies),
        median_latency=percentile(latencies, 0.5),
        p95_latency=percentile(latencies, 0.95),
        server_cpu=server_cpu,
        client_cpu=client_cpu,
        peak_memory=memory,
        seconds=seconds,
        elsewhere=max(0.0, machine_cpu - server_cpu - client_cpu),
    )


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value of an ascending list that at least ``share`` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
