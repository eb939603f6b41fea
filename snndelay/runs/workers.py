"""Trainings side by side, each in a process of its own that outlives a training.

Not concurrent.futures: there one process that is killed (memory) takes all others along.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple, NoReturn

PATIENCE_S = 20  # for a process that was told to end


class Worker(NamedTuple):
    """A process, and our end of the line to it. `number`: 0 .. processes - 1."""

    process: SpawnProcess
    line: Connection
    number: int


def in_processes(
    work: Callable[[Any], Any], jobs: Sequence[Any], processes: int
) -> Iterator[tuple[Any, Any]]:
    """(job, work(job)) of every job, as they finish; the result is None where the process died.

    work: a function of a module, which raises nothing; with one process it runs in this one, where
    it may raise. Whoever stops early closes the iterator, which ends the processes.
    """
    if processes == 1:
        yield from ((job, work(job)) for job in jobs)
        return
    left, busy = deque(jobs), {}
    try:
        for number in range(min(processes, len(jobs))):
            _give(_start(work, number, processes), left, busy)
        while busy:
            for line in wait([*busy]):
                worker, job = busy.pop(line)
                result = _received(worker)
                if result is None or not left:
                    _end(worker)
                if left:
                    lost = result is None
                    next_one = _start(work, worker.number, processes) if lost else worker
                    _give(next_one, left, busy)
                yield job, result
    finally:
        _end(*(worker for worker, _ in busy.values()))


def _start(work: Callable[[Any], Any], number: int, processes: int) -> Worker:
    # spawn, not fork: a fork of a process with threads (torch's) can hang
    context: SpawnContext = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs, number, processes))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C goes to all processes
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)  # and this one ends the others
    theirs.close()  # so that our end hears of the process's death
    return Worker(process, ours, number)


def _give(worker: Worker, left: deque, busy: dict) -> None:
    job = left.popleft()
    busy[worker.line] = worker, job
    with suppress(OSError):  # dead already: `_received` says so
        worker.line.send(job)


def _received(worker: Worker) -> Any:
    """What a worker made of its job; None if it died."""
    try:
        return worker.line.recv()
    except (EOFError, OSError):
        return None


def _end(*workers: Worker) -> None:
    for worker in workers:
        worker.line.close()  # an idle one ends by itself then
        worker.process.terminate()
    for worker in workers:
        worker.process.join(PATIENCE_S)
        worker.process.kill()
        worker.process.join()


def _serve(work: Callable[[Any], Any], line: Connection, number: int, processes: int) -> None:
    """What a process does: it works on what comes through the line."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    pin(number, processes)
    with suppress(EOFError, OSError):  # the parent has gone
        while True:
            line.send(work(line.recv()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it leaves by itself, see `_leave`


def _leave(*_: Any) -> NoReturn:
    """Ends this process by the usual way out, which tidies up. Told so once more, as it may be
    while it leaves, it would stop tidying: semaphores (tqdm's) would be left behind."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def _follow_parent() -> None:
    """Ends this process as soon as its parent is gone, killed perhaps: nobody would hear of what it
    trains, and the same command would train it a second time."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a started process follows"
    parent.join()
    os._exit(1)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin(number: int, processes: int) -> None:
    """Gives a process processors of its own, where the system can and there are enough: unpinned,
    two single-threaded runs on two cores take twice as long (docs/log.md)."""
    if hasattr(os, "sched_setaffinity") and processes <= cores():
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[number::processes])
