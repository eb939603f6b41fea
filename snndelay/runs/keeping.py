"""When a run is saved, within its epochs too, and what a signal does to it.

The first signal is answered when the step is made: the run is saved and ends. While samples are
evaluated nothing has to be finished, so it is answered at once. A second one ends the process.
"""

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..data.workers import SIGNALS
from ..errors import (
    CheckpointWriteError,
    ConfigError,
    DataError,
    EventFormatError,
    Interrupted,
    NonFiniteError,
    RunError,
)
from ..ranks import ALONE, Elsewhere, Ranks
from ..weights import not_finite
from . import checkpoint
from .machine import program
from .session import Session

ECHO_S = 5  # torchrun passes on what a terminal or a cluster has sent to all processes already
EVERY = re.compile(r"(\d+(?:\.\d+)?)(m?)")


class Stop(KeyboardInterrupt):
    """A signal, answered; `number` says which one."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Signals:
    """Answers signals as long as it is entered; those that somebody else answers stay theirs. Of
    several processes all stop at the step after which one was found to have heard a signal. A Stop
    that nobody has answered by then leaves as Interrupted."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.caught: int | None = None
        self._held, self._heard = False, -ECHO_S
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            usual = (signal.SIG_DFL, signal.default_int_handler)
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows lacks some
                if number is not None and signal.getsignal(number) in usual:
                    self._before[number] = signal.signal(number, self._answer)
        return self

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt):
            raise interrupted(error) from None

    def _answer(self, number: int, _: object) -> None:
        if self.caught is not None:
            if self.ranks.size > 1 and time.monotonic() < self._heard + ECHO_S:
                return
            os._exit(128 + number)
        self.caught, self._heard = number, time.monotonic()
        if not self._held:
            raise Stop(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes meanwhile raises Stop at the end, or in `check`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.check()

    def check(self) -> None:
        """Raises Stop if there was a signal, in this process or in another."""
        if number := self.ranks.most(self.caught or 0):
            if self.caught is None:
                self.caught, self._heard = number, time.monotonic()
            raise Stop(number)


class Keeper:
    """Saves a run: last.pt with previous.pt, and best.pt. `about`: what a checkpoint says beside
    the session. `folder`: None where another process saves. `every`: minutes (`10m`) or steps
    (`500`) between two savings within an epoch."""

    def __init__(self, folder: Path | None, about: dict[str, Any], every: str, signals: Signals):
        self.folder, self.about, self.signals = folder, about, signals
        self.minutes, self.steps = interval(every)
        self.saved, self.clock = time.monotonic(), time.perf_counter()

    def start_epoch(self, session: Session) -> None:
        """Its time counts from now, and from where it was before this process."""
        self.clock = time.perf_counter() - session.part_seconds

    @property
    def epoch_seconds(self) -> float:
        """Of the epoch so far."""
        return time.perf_counter() - self.clock

    def after_step(self, session: Session) -> None:
        """Saves if it is time. Raises Stop if there was a signal."""
        self.signals.check()
        late = self.minutes and time.monotonic() - self.saved >= 60 * self.minutes
        if late or (self.steps and session.step % self.steps == 0):
            self.save(session)

    def save(self, session: Session, best: bool = False) -> None:
        """The session as last.pt, and as best.pt too. CheckpointWriteError, and NonFiniteError for
        weights that no run could go on from: what was saved before stays."""
        if self.folder is None:
            return
        epoch = session.epoch + bool(session.step)
        if name := not_finite(session.net.named_parameters()):
            raise NonFiniteError(
                f"{name} became NaN or infinite in epoch {epoch}: lower the learning rate, or set "
                "or lower --grad-clip, with --resume too"
            )
        seconds = self.epoch_seconds if session.step else 0.0
        state = session.state() | {"part_seconds": seconds} | self.about
        if best:
            checkpoint.save(self.folder / "best.pt", state)
        checkpoint.save_newest(self.folder, state)
        self.saved = time.monotonic()


def interval(every: str) -> tuple[float, int]:
    """(minutes, steps) of a word like `10m` or `500`, one of them 0. ConfigError for others."""
    found = EVERY.fullmatch(every)
    number = float(found[1]) if found else 0.0
    if not found or not number or (not found[2] and number % 1):
        raise ConfigError(
            f"checkpoint_every is {every!r}: give minutes, as 10m, or a number of steps, as 500"
        )
    return (number, 0) if found[2] else (0.0, int(number))


@contextmanager
def one_sentence(folder: Path) -> Iterator[None]:
    """What can end a run in `folder`, as one sentence each; where nothing was saved it goes."""
    usual = threading.excepthook
    # that of TensorBoard's thread is raised again where the run writes next
    threading.excepthook = lambda args: isinstance(args.exc_value, OSError) or usual(args)
    try:
        yield
    except KeyboardInterrupt as stop:
        raise interrupted(stop, folder) from None
    except (DataError, EventFormatError, Elsewhere) as error:
        if not (folder / checkpoint.NEWEST).exists():
            raise
        text = f"{error} (what is trained is saved, go on with: {program()} --resume {folder})"
        raise DataError(text) from error
    except BrokenPipeError as error:
        saved = (folder / checkpoint.NEWEST).exists()
        more = f", go on with: {program()} --resume {folder}" if saved else ""
        raise RunError(f"stopped, for nobody reads what the run prints{more}") from error
    except (OSError, CheckpointWriteError) as error:
        if not folder.exists():
            text = f"{folder} is gone, removed or renamed while it trained: nothing more is kept"
            raise RunError(text) from error
        if isinstance(error, CheckpointWriteError):
            raise
        reason = error.strerror or error
        raise RunError(f"cannot write in {folder} ({reason}): make room or use --runs") from error
    finally:
        threading.excepthook = usual
        if folder.exists() and not (folder / checkpoint.NEWEST).exists():
            shutil.rmtree(folder)


def interrupted(stop: KeyboardInterrupt, folder: Path | None = None) -> Interrupted:
    """What a run that was stopped says. folder: that of the run, if it has one already."""
    text = "stopped before the first step: nothing was saved"
    if folder is not None and (folder / checkpoint.NEWEST).exists():
        text = f"stopped and saved, go on with: {program()} --resume {folder}"
    return Interrupted(text, getattr(stop, "number", signal.SIGINT))
