"""Worker processes of a loader: one sentence when one of them ends or hangs, and none that is left.

torch raises wherever the program is when it hears of a worker's end; here that waits until the next
batch is asked for, so that no training step is cut in two.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import active_children
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
    others = active_children()
    made = iter(loader)
    crew = sorted((w for w in active_children() if w not in others), key=lambda w: w.pid or 0)
    waiting = False

    def heard(*_: object) -> None:
        if waiting and _ended(crew):
            raise _Ended

    with _hearing(heard):
        try:
            for k, clip in enumerate(clips):
                waiting = True
                try:
                    if _ended(crew):
                        raise _Ended
                    batch = next(made)
                except RuntimeError as error:
                    waiting = False
                    sentence = _sentence(crew, k, clip, loader.timeout)
                    _kill(crew)
                    raise DataError(sentence) from error
                waiting = False
                yield batch
        finally:
            waiting = False
            del made  # ends them, if they listen
            _kill(crew)


def leave_signals(worker: int) -> None:
    """For a worker: the trainer answers signals, and ends it."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


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
