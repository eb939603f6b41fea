"""Clips that are waveforms, and what becomes of them: frames that are there before the first epoch.

    waves = open_waves("words", "train")             # a folder, a CSV file
    clips, notes = frame_clips(waves, LogMel())      # a FrameSet, which the loader takes

`WaveSet` has files, `FrameSet` their frames, one array in memory or in a mapped file of the cache.

Legend: n clips of a set, N rows of frames: one for each file of the source, or for each window.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ..cache import cached_frames, stamp
from ..coverage import WAY_OUT, left_out, none_left
from ..folders import Files, numbered
from ..placing import goes_there, on_host, one_thread
from ..tables import Listed, paths_of, read_table
from .log_mel import LogMel, log_mel
from .shd import AS_STORED, Reading
from .speech_commands import has_lists, list_clips
from .wave_files import also, duration_ms, find_clips, read_wave, speaker_numbers

VERSION = 1  # of the frames; another number makes cached ones anew


@dataclass(frozen=True)
class WaveSet:
    """Audio files of one data set. `paths` of all files of the source; of the n clips `labels`
    int64 (n,), index into `classes`, `speakers` int64 (n,), None where unknown, and `index` int64
    (n,), their places in `paths`. `reverse`: play them backwards."""

    name: str
    paths: tuple[Path, ...]
    labels: np.ndarray
    classes: list[str]
    speakers: np.ndarray | None
    index: np.ndarray
    reverse: bool = False
    made: dict[LogMel, "Rows"] = field(default_factory=dict, repr=False)  # shared by subsets

    def __len__(self) -> int:
        return len(self.labels)

    def identity(self, i: int) -> str:
        """File of clip `i`, its name in messages."""
        return str(self.paths[self.index[i]])

    def subset(self, indices: np.ndarray) -> "WaveSet":
        """Those at `indices` int64 (m,), in that order."""
        speakers = None if self.speakers is None else self.speakers[indices]
        kept = dict(labels=self.labels[indices], speakers=speakers, index=self.index[indices])
        return replace(self, **kept)

    def read_as(self, reading: Reading) -> "WaveSet":
        """This set, played backwards if `reading` says so. Errors: DataError for what it says of
        spikes only."""
        for name in ("time_unit", "time_zero", "spikes_per_unit", "n_units"):
            if getattr(reading, name) != getattr(AS_STORED, name):
                option = f"--{name.replace('_', '-')}"
                raise DataError(f"{self.name} are audio files, no spikes: leave out {option}")
        return replace(self, reverse=reading.reverse)


class Rows(NamedTuple):
    """Frames of all files of a source: `frames` float16 or 32 (N, T, C), NaN where a file cannot be
    read; of each row its file, `owner`, and the `number` of its window, int64 (N,). `n_cut`,
    `n_padded`: rows whose file is longer, or shorter, than the frames."""

    frames: np.ndarray
    owner: np.ndarray
    number: np.ndarray
    n_cut: int
    n_padded: int


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Clips that are frames: `frames` float16 or 32 (N, T, C), on the host or a device; of the n
    clips `place` int64 (n,), their rows, `names`, and `labels`, `classes`, `speakers` as in
    WaveSet. `reverse`: the last frame first."""

    name: str
    frames: Tensor
    place: np.ndarray
    names: Sequence[str]
    labels: np.ndarray
    classes: list[str]
    speakers: np.ndarray | None
    reverse: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def identity(self, i: int) -> str:
        """Name of clip `i` in messages: its file and, where that has several, its window."""
        return self.names[i]

    def before_fork(self) -> None:
        """Nothing to do: worker processes share the array."""


def open_waves(path: Path, label: str = "label", files: Files | None = None) -> dict[str, WaveSet]:
    """The splits, "train" and perhaps "valid" and "test", of a folder as `wave_files` reads it, or
    of a table (by its suffix); of a folder with the lists of Speech Commands, theirs. `label`: the
    column of the classes; `files`: as in `find_clips`. Errors: DataError."""
    if path.suffix.lower() == ".csv" and not path.is_dir():
        return wave_sets(str(path), path.parent, read_table(path, label=label))
    clips = list_clips(path, files) if has_lists(path) else find_clips(path, files)
    return wave_sets(str(path), path, clips)


def wave_sets(name: str, folder: Path, clips: Sequence[Listed]) -> dict[str, WaveSet]:
    """A set for every split of `clips`, with its own classes and the speakers of all of them."""
    speakers, paths, made = speaker_numbers(clips), paths_of(folder, clips), {}
    for split in dict.fromkeys(clip.split for clip in clips):
        mine = [i for i, clip in enumerate(clips) if clip.split == split]
        classes, labels = numbered([clips[i].label for i in mine])
        made[split] = WaveSet(
            f"{name} {split}",
            tuple(paths[i] for i in mine),
            labels,
            classes,
            None if speakers is None else np.array([speakers[i] for i in mine], np.int64),
            np.arange(len(mine)),
        )
    return made


def frame_clips(
    waves: WaveSet,
    how: LogMel,
    *,
    name: str = "training",
    folder: Path | None = None,
    skip_bad: bool = False,
    device: torch.device | None = None,
    data_on: str = "auto",
) -> tuple[FrameSet, list[str]]:
    """The frames of `waves`, and what to tell about them. `name`: of the part, in messages;
    `folder`: of the cache, None: in memory; `device`, `data_on`: as `goes_there` takes them; on a
    device a set has its own rows only. Errors: DataError naming the bad files, all in one sentence,
    unless they are skipped; ConfigError for settings that cannot be."""
    is_new = how not in waves.made
    rows = waves.made[how] = waves.made.get(how) or _rows(waves, how.check(), folder, name)
    by_owner = np.split(np.arange(len(rows.owner)), np.flatnonzero(np.diff(rows.owner)) + 1)
    place = np.concatenate([by_owner[i] for i in waves.index.tolist()])
    source = np.repeat(np.arange(len(waves)), [len(by_owner[i]) for i in waves.index.tolist()])
    bad = np.isnan(rows.frames[place, 0, 0])
    notes = _notes(rows, how, waves.name) if is_new else []  # else told of another part of it
    if bad.any():
        notes.insert(0, _bad_files(waves, np.unique(source[bad]), how, skip_bad, name))
        place, source = place[~bad], source[~bad]
    names = [waves.identity(i) for i in source.tolist()]
    if how.window_ms is not None:
        names = [f"{at}, window {k}" for at, k in zip(names, rows.number[place], strict=True)]
    frames, n_bytes = on_host(rows.frames), len(place) * rows.frames[:1].nbytes
    if device and goes_there(n_bytes, device, data_on, f"the frames of {waves.name}"):
        frames = torch.from_numpy(rows.frames[place]).to(device)
        place = np.arange(len(place))
    speakers = None if waves.speakers is None else waves.speakers[source]
    labels = waves.labels[source]
    made = FrameSet(
        waves.name, frames, place, names, labels, waves.classes, speakers, waves.reverse
    )
    return made, notes


def windows(waves: WaveSet, how: LogMel) -> tuple[WaveSet, np.ndarray]:
    """(the set with each of its files once for every window, the numbers of these windows, int64);
    without windows the set as it is, and zeros."""
    owner, number = _windows([waves.paths[i] for i in waves.index.tolist()], how)
    return waves.subset(owner), number


def cut_line(n_files: int, n: int, how: LogMel) -> str:
    """What was cut into n windows."""
    return f"{n_files} files are cut into {n} windows of {how.window_ms:g} ms"


def file_frames(path: Path, how: LogMel) -> Iterator[np.ndarray]:
    """Frames (T, C) of one file, or of each of its windows. Errors: DataError naming it."""
    _, number = _windows([path], how)
    for k in number.tolist():
        wave, rate, _ = read_wave(path, k * how.step_ms, how.length_ms)
        yield log_mel(torch.from_numpy(wave), rate, how).numpy()


def _rows(waves: WaveSet, how: LogMel, folder: Path | None, name: str) -> Rows:
    """The frames of every file of the source, from the cache where they are there."""
    owner, number = _windows(waves.paths, how)
    step_ms = how.step_ms
    counts = np.zeros(2, np.int64)

    def make(row: int) -> np.ndarray:
        at_ms = number[row] * step_ms
        try:
            wave, rate, more = read_wave(waves.paths[owner[row]], at_ms, how.length_ms)
            counts[:] += (
                more and how.window_ms is None,
                1000 * len(wave) + rate < rate * how.length_ms,
            )
            return log_mel(torch.from_numpy(wave), rate, how).numpy()
        except DataError:
            return np.full((how.T, how.n_mels), np.nan, np.float32)

    files = [[str(path), *_stamp(path)] for path in waves.paths] if folder else []
    files_hash = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    key = {"log_mel": VERSION, "how": how, "files": files_hash}
    with one_thread(torch.device("cpu")):
        progress = f"log-mel, {name}" if sys.stderr.isatty() else None
        frames = cached_frames(key, make, len(owner), folder, progress, counts)
    return Rows(frames, owner, number, *counts.tolist())


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        return stamp(path)
    except OSError:
        return ()


def _windows(paths: Sequence[Path], how: LogMel) -> tuple[np.ndarray, np.ndarray]:
    """`owner` and `number` of Rows: without windows one row for each file; a file that cannot be
    read has one too, and a last window that holds a part of one only is padded."""
    if how.window_ms is None:
        return np.arange(len(paths)), np.zeros(len(paths), np.int64)
    step_ms, count = how.step_ms, []
    for path in paths:
        try:
            left_ms = duration_ms(path) - how.window_ms
        except DataError:
            left_ms = 0.0
        count.append(1 + max(0, int(np.ceil(left_ms / step_ms - 1e-6))))
    number = np.concatenate([np.arange(n) for n in count])
    return np.repeat(np.arange(len(paths)), count), number


def _notes(rows: Rows, how: LogMel, name: str) -> list[str]:
    """What frames a source has."""
    words = f"{name}: log-mel frames of {how.n_mels} bands, {how.T} each, every {how.dt_ms:g} ms"
    n, n_files = len(rows.owner), rows.owner[-1] + 1
    if how.window_ms is not None:
        return [f"{words}; {cut_line(n_files, n, how)}"]
    total = f"of {n_files} files {rows.n_cut} are longer, and cut"
    return [f"{words} ({how.length_ms:g} ms); {total}, {rows.n_padded} shorter, and padded"]


def _bad_files(waves: WaveSet, bad: np.ndarray, how: LogMel, skip_bad: bool, name: str) -> str:
    """How many clips at `bad` are left out, and why the first is. Errors: DataError naming them,
    unless they are skipped, and if none is left."""
    why = _why(waves.paths[waves.index[bad[0]]], how)
    if skip_bad and len(bad) < len(waves):
        return left_out(len(bad), len(waves), f"{name} clips", why)
    if len(bad) == len(waves):
        raise DataError(none_left(len(bad), f"clips of {waves.name}", why))
    raise DataError(f"{why}{also([waves.identity(i) for i in bad[1:].tolist()])}{WAY_OUT}")


def _why(path: Path, how: LogMel) -> str:
    """What is wrong with a bad file."""
    try:
        wave, rate, _ = read_wave(path, 0, how.length_ms)
        log_mel(torch.from_numpy(wave), rate, how)
    except DataError as error:
        return str(error)
    return f"{path} cannot be read to its end"
