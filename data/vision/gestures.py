"""DVS128-Gesture's original archive: long recordings and the tables by which they are cut.

    trials_to_train.txt  trials_to_test.txt     names of recordings, one a line
    user01_led.aedat     user01_led_labels.csv  class,startTime_usec,endTime_usec

Source: Amir et al. 2017, and the README of the archive.
"""

import csv
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ...errors import DataError
from ..cache import stamp
from ..events import Events
from .formats import read_events

LISTS = ("trials_to_train.txt", "trials_to_test.txt")
COLUMNS = ("class", "startTime_usec", "endTime_usec")


class Trial(NamedTuple):
    """One gesture: from `start_us` to before `end_us` of the recording at `path`. `label` from 0,
    where the tables count from 1; `identity`: "<recording>/<label>", the second of one label with
    _1 after it."""

    path: Path
    label: int
    start_us: int
    end_us: int
    identity: str
    in_test: bool


def trials(folder: Path) -> list[Trial]:
    """All gestures that the lists and tables in `folder` name, in their order. Errors: DataError
    that names the file and line that is missing or makes no sense."""
    found, seen = [], set()
    for in_test, name in enumerate(LISTS):
        if not (folder / name).is_file():
            continue
        for line in _text(folder / name).split():
            if line in seen:
                raise DataError(f"{folder / name}: {line} is listed twice")
            seen.add(line)
            found += _cuts(folder / line, bool(in_test))
    if not found:
        raise DataError(f"{folder} has no list of recordings: {' or '.join(LISTS)}")
    return found


def read_trial(trial: Trial, size: tuple[int, int] | None = None) -> Events:
    """The events of a gesture, time 0 at its beginning. Errors: as `read_events`."""
    try:
        version = stamp(trial.path)
    except OSError as error:
        raise DataError(f"cannot read the recording {trial.path}: {error.strerror}") from None
    events = _whole(trial.path, size, version)
    inside = events.select((events.t_us >= trial.start_us) & (events.t_us < trial.end_us))
    return Events(inside.t_us - trial.start_us, inside.x, inside.y, inside.p)


@lru_cache(maxsize=1)  # the gestures of a recording are read one after the other
def _whole(path: Path, size: tuple[int, int] | None, version: tuple) -> Events:
    return read_events(path, size)


def _cuts(path: Path, in_test: bool) -> list[Trial]:
    """The gestures of one recording, by its table."""
    table = path.with_name(f"{path.stem}_labels.csv")
    for file in (path, table):
        if not file.is_file():
            raise DataError(f"there is no {file}, which a list names: fetch the archive again")
    rows = csv.DictReader(_text(table).splitlines(), skipinitialspace=True)
    cuts, seen = [], Counter()
    for line, row in enumerate(rows, 2):
        try:
            label, start_us, end_us = (int(row[name]) for name in COLUMNS)
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{table}, line {line}: expected {','.join(COLUMNS)}") from None
        if label < 1 or not 0 <= start_us < end_us:
            raise DataError(f"{table}, line {line}: class {label} from {start_us} to {end_us} us")
        nth = f"_{seen[label]}" if seen[label] else ""
        seen[label] += 1
        identity = f"{path.stem}/{label - 1}{nth}"
        cuts.append(Trial(path, label - 1, start_us, end_us, identity, in_test))
    return cuts


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error})") from None
