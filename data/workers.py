"""Worker processes of a loader: one sentence when one of them ends or hangs, and none that is left.

torch raises wherever the program is when it hears of a worker's end; here that waits until the next
batch is asked for, so that no training step is cut in two.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from ..errors import DataError

# Ctrl-C, what schedulers of clusters send, the end of a terminal: they reach all processes of a
# terminal or a job, and only the trainer is to answer them
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class _Ended(RuntimeError):
    """A worker ended while its batch was waited for."""


def batches_of(loader: DataLoader, clips: Sequence[Any]) -> Iterator[Any]:
    """What `loader` makes in its workers, one item for each of `clips`, whose words name it in
    errors. Errors: DataError if a worker ended or did not answer within the loader's time. No
    worker outlives the iterator."""
    made: Any = None
    waiting, crew = False, []

    def heard(*_: object) -> None:
        if waiting and _ended(crew):
            raise _Ended

    try:
        with _hearing(heard):
            with _signals_later():  # what came is answered at its end: the crew is known then
                made, crew = _begun(loader)
            with _hearing(heard):  # torch's first loader of a process has put its own answer there
                for k, clip in enumerate(clips):
                    waiting = True
                    try:
                        if _ended(crew):
                            raise _Ended
                        batch = next(made)
                    except (RuntimeError, EOFError, OSError) as error:
                        # the last two: it had said that a batch is ready, and ended before that
                        # was fetched from it; errors of ours travel as values
                        waiting = False
                        _wait_for_an_end(crew)
                        sentence = _sentence(crew, k, clip, loader.timeout)
                        _kill(crew)
                        raise DataError(sentence) from error
                    waiting = False
                    yield batch
    finally:
        waiting = False
        with _signals_later():
            made = None  # ends them, if they listen
            _kill(crew)


def _begun(loader: DataLoader) -> tuple[Any, list[BaseProcess]]:
    """An iterator of a loader, and its workers. DataError if they cannot start."""
    try:
        made: Any = iter(loader)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"loader workers cannot start ({reason}): give fewer --workers") from error
    return made, list(made._workers)  # one that ended meanwhile is no active child any more


def leave_signals(worker: int) -> None:
    """For a worker: the trainer answers signals, and ends it."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextmanager
def _signals_later() -> Iterator[None]:
    """What comes within is answered at the end: Python hides what an answer raises while it forks,
    and torch what it raises while an iterator goes. Processes made within hear of nothing."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    numbers = [number for number in numbers if callable(signal.getsignal(number))]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    came: list[int] = []
    before = {n: signal.signal(n, lambda n, _: came.append(n)) for n in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # which a new process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _hearing(heard: Callable) -> Iterator[None]:
    """Calls a function when a child ends, in place of whoever else would hear of it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _ended(crew: list[BaseProcess]) -> list[tuple[int, int]]:
    """(number, exit code) of every worker that ended of itself."""
    return [(i, worker.exitcode) for i, worker in enumerate(crew) if worker.exitcode]


def _wait_for_an_end(crew: list[BaseProcess]) -> None:
    """Returns when it is known how a worker ended that is about to, and soon if none is."""
    ending = wait([worker.sentinel for worker in crew], timeout=1)
    for worker in crew:
        if worker.sentinel in ending:
            worker.join(1)


def _sentence(crew: list[BaseProcess], k: int, clip: Any, timeout_s: float) -> str:
    number, how = k % len(crew), f"gave no answer for {timeout_s:g} s"
    if ended := _ended(crew):
        number, code = ended[0]
        how = f"ended with code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}" + " (memory?)" * (code == -9)
    return (
        f"loader worker {number} {how} while {clip} were made: give fewer --workers, or --workers "
        "0 to see why"
    )


def _kill(crew: list[BaseProcess]) -> None:
    for worker in crew:
        if worker.exitcode is None:
            worker.kill()
        worker.join()
