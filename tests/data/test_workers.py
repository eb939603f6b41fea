"""Workers that end at the worst moments."""

import multiprocessing
import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from snndelay.data import workers
from snndelay.data.workers import batches_of
from snndelay.errors import DataError


def test_a_worker_that_ends_before_it_is_known(monkeypatch):
    begun = workers._begun

    def and_killed(loader):
        made, crew = begun(loader)
        os.kill(crew[0].pid, signal.SIGKILL)
        crew[0].join()
        assert len(multiprocessing.active_children()) == 1
        return made, crew

    monkeypatch.setattr(workers, "_begun", and_killed)
    with pytest.raises(DataError, match=r"loader worker 0 was killed by SIGKILL .* while a were"):
        list(batches_of(DataLoader(range(4), num_workers=2, timeout=20), ["a", "b", "c", "d"]))
    assert not multiprocessing.active_children()


class Heard(Exception):
    """The answer to a signal."""


@pytest.mark.parametrize("moment", ["begins", "ends"])
def test_a_signal_while_workers_begin_or_end_is_answered_after_that(moment, monkeypatch):
    def answer(number, _):
        raise Heard(number)

    def with_a_signal(function, *given):
        signal.raise_signal(signal.SIGTERM)
        made = function(*given)
        done.append(moment)
        return made

    done, before = [], signal.signal(signal.SIGTERM, answer)
    name = {"begins": "_begun", "ends": "_kill"}[moment]
    monkeypatch.setattr(workers, name, partial(with_a_signal, getattr(workers, name)))
    try:
        with pytest.raises(Heard) as kept:  # its traceback keeps the loader, which would end them
            list(batches_of(DataLoader(range(4), num_workers=2, timeout=20), ["a", "b", "c", "d"]))
        assert kept and done == [moment] and signal.getsignal(signal.SIGTERM) is answer
        # none is left to the end of the program, which would wait for it: it hears of no signal
        assert not multiprocessing.active_children()
    finally:
        signal.signal(signal.SIGTERM, before)


class Slow(list):
    """Items that take a moment."""

    def __getitem__(self, i):
        time.sleep(0.2)
        return super().__getitem__(i)


def test_a_signal_to_all_processes_is_for_the_trainer():
    """A worker hears of nothing from its first moment on, before it can say what it ignores."""
    begun, made = workers._begun, []

    def and_told(loader):
        found = begun(loader)
        for worker in found[1]:
            os.kill(worker.pid, signal.SIGTERM)
        return found

    before = signal.signal(signal.SIGTERM, lambda *_: made.append("heard"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "_begun", and_told)
            loader = DataLoader(Slow(range(4)), num_workers=2, timeout=20)
            made += batches_of(loader, ["a", "b", "c", "d"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [int(x) for x in made] == [0, 1, 2, 3]


class Ending:
    """An iterator whose worker says that a batch is ready and ends before that is fetched."""

    def __init__(self, error):
        self.error = error
        self._workers = [multiprocessing.Process(target=time.sleep, args=(60,))]
        self._workers[0].start()

    def __next__(self):
        os.kill(self._workers[0].pid, signal.SIGKILL)
        raise self.error


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, FileNotFoundError])
def test_a_worker_that_ends_while_its_batch_is_fetched(error, monkeypatch):
    monkeypatch.setattr(workers, "_begun", lambda _: (made := Ending(error), made._workers))
    with pytest.raises(DataError, match="loader worker 0 was killed by SIGKILL"):
        list(batches_of(SimpleNamespace(timeout=20), ["a"]))


@pytest.mark.parametrize("error", [OSError(11, "no more processes"), RuntimeError("no thread")])
def test_workers_that_cannot_start(error):
    class Loader:
        def __iter__(self):
            raise error

    with pytest.raises(DataError, match=r"workers cannot start \(.*no .*\): give fewer --workers"):
        list(batches_of(Loader(), ["a"]))
