"""What `snndelay data` finds out about a data set, as a run with some settings would read it.

look = look_at(settings, preset="shd")
look.found  # a dictionary for JSON, of which `look_text.lines` makes text
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data import found
from ..data.archives import ARCHIVES
from ..data.audio.sets import ClipSet
from ..data.audio.shd import Reading
from ..data.audio.spike_files import read_bytes, text_clip
from ..data.audio.split import split_clips
from ..data.audio.waves import WaveSet, cut_line, wave_sets, windows
from ..data.audio.windows import cut
from ..data.catalog import DATASETS, open_clips, open_recordings, open_task
from ..data.download import md5_of
from ..data.figures import LEVELS, clip_figures, recording_figures, wave_figures
from ..data.folders import SPLITS
from ..data.one_file import one_sample
from ..data.tables import Listed
from ..data.tasks.memory import SHORTEST
from ..data.vision.clock import clock_lines
from ..data.vision.formats import check_sensor, read_events, sensor_size, size_of
from ..data.vision.frames import TIMED
from ..data.vision.framing import Framing, resize_lines
from ..data.vision.sets import RecordingSet
from ..data.vision.split import split_recordings
from ..errors import DataError
from .audio import PARTS, framing_of
from .look_told import Look, told
from .settings import AudioSettings, MemorySettings, Settings, VisionSettings
from .vision import framing_of as framing_of_recordings
from .waves import log_mel_of

MOST, LEAST = 2000, 20  # samples of a part that are looked at, unless all are
MOST_READ = 300 * 10**6  # bytes of files that are read for them, roughly
MOST_BYTES = 10**9  # of the files of which checksums are made, unless all are
FEW = 4  # files of a folder that have a checksum of their own
TRIALS, BATCHES = 16, 400  # of a memory task, from which the share of its labels is estimated


def look_at(
    settings: Settings, preset: str | None, check: bool = False, file: Path | None = None
) -> Look:
    """Looks at the data of `settings`: at MOST samples of every part, with `check` at all. `file`:
    one sample in place of the data. Errors: DataError, EventFormatError, ConfigError for data
    that cannot be opened at all."""
    name = str(file or settings.data.dataset)
    about: dict[str, Any] = {"name": name, "kind": settings.kind, "preset": preset}
    if (entry := DATASETS.get(name)) is not None:
        keys = ("title", "licence", "size", "url", "layout", "protocol")
        about |= {key: getattr(entry, key) for key in keys} | {"command": entry.command(name)}
    if isinstance(settings, MemorySettings):
        return Look(about | _trials(settings), [], [], ())
    if isinstance(settings, AudioSettings):
        look, files, folder = _clips(settings, about, check, file)
    else:
        look, files, folder = _recordings(settings, about, check, file)
    look.found |= {"files": _files(files, folder, check)}
    look.found |= {"archives": _archives(settings, check)} if entry and entry.archives else {}
    if folder is not None and not Path(name).expanduser().is_file():  # nor a table: it says which
        look.found["skipped"] = [row._asdict() for row in found.skipped(folder, files)]
    return look


def _clips(
    settings: AudioSettings, about: dict[str, Any], check: bool, file: Path | None
) -> tuple[Look, list[Path], Path | None]:
    notes: list[str] = []
    sets = {"all": one_clip(file, _reading(settings))} if file else _clip_parts(settings, notes)
    first = next(iter(sets.values()))
    if isinstance(first, WaveSet):
        return _waves(settings, about, check, sets, notes)
    frames = settings.frames
    how = framing_of(settings, first)
    paths = [Path(name) for part in sets.values() for name in part.names or [part.name]]
    paths = [path for path in dict.fromkeys(paths) if path.is_file()]
    for name, part in sets.items() if frames.window_ms else ():
        sets[name], note = cut(part, frames.window_ms, frames.window_overlap)
        notes.append(f"{name}: {note}")
    most = _affordable(sets, paths, check)
    with _bar(sum(most.values())) as bar:
        parts = [clip_figures(*part, how, most[part[0]], bar.update) for part in sets.items()]
    steps = "" if how.n_steps is None else f", {how.n_steps} of them"
    shown = f"{how.dt_us / 1000:g} ms each{steps}, {how.channels} channels, framing {how.framing}"
    look = told(about, shown, parts, first.classes, (how.n_units,), notes)
    for row, clips in zip(look.found["parts"], sets.values(), strict=True):
        if clips.speakers is not None:
            row["speakers"] = np.unique(clips.speakers).tolist()
    return look, paths, _shared(paths) if first.names else None


def _waves(
    settings: AudioSettings, about: dict, check: bool, sets: dict, notes: list[str]
) -> tuple[Look, list[Path], Path | None]:
    """The look at audio files."""
    how = log_mel_of(settings)
    paths = [[part.paths[i] for i in part.index] for part in sets.values()]
    files = list(dict.fromkeys(path for part in paths for path in part))
    cut_sets = {name: windows(part, how) for name, part in sets.items()}
    most = _affordable({name: part for name, (part, _) in cut_sets.items()}, files, check)
    with _bar(sum(most.values())) as bar:
        parts = [
            wave_figures(name, *part, how, most[name], bar.update)
            for name, part in cut_sets.items()
        ]
    frames = f"log-mel of {how.n_mels} bands, {how.T} of them, one every {how.dt_ms:g} ms"
    for name, (part, _) in cut_sets.items() if how.window_ms else ():
        notes.append(f"{name}: {cut_line(len(sets[name]), len(part), how)}")
    notes.append(f"audio files: an event is a value of the waveform, a unit one of {LEVELS} levels")
    classes = next(iter(sets.values())).classes
    return told(about, frames, parts, classes, (LEVELS,), notes), files, _shared(files)


def _clip_parts(settings: AudioSettings, notes: list[str]) -> dict[str, Any]:
    """The parts as a run would have them; if it would refuse the set, those that are there."""
    data, file = settings.data, settings.frames.test_file
    where = {"root": data.root, "test_file": file, "reading": _reading(settings)}
    try:
        parts = split_clips(
            data.dataset, download=data.download, protocol=data.protocol,
            valid_fraction=data.valid_fraction, seed=settings.training.seed, **where,
        )  # fmt: skip
        named = zip(PARTS, parts, strict=True)
        return {name: part for name, part in named if part is not None and len(part)}
    except DataError as error:
        there = {}
        for name, split in zip(PARTS, SPLITS, strict=True):
            try:
                there[name] = open_clips(data.dataset, split=split, **where)
            except DataError:
                continue
        if not there:
            raise
        notes.append(f"warning: a run would stop: {error}")
        first, n_units = next(iter(there.values())), lambda part: getattr(part, "n_units", None)
        return {
            name: part
            for name, part in there.items()
            if (part.classes, n_units(part)) == (first.classes, n_units(first))
        }


def _reading(settings: AudioSettings) -> Reading:
    """As a run reads clips; what is bad is found, not refused."""
    frames = settings.frames
    said = {name: getattr(frames, name) for name in Reading._fields if hasattr(frames, name)}
    return Reading(**said)._replace(skip_bad=True)


def _recordings(
    settings: VisionSettings, about: dict[str, Any], check: bool, file: Path | None
) -> tuple[Look, list[Path], Path | None]:
    data, notes = settings.data, []
    unit, sensor = settings.frames.time_unit, settings.frames.sensor
    recordings = one_recording(file, unit, sensor) if file else _opened(settings)
    how = framing_of_recordings(settings)
    notes += [*recordings.said, *clock_lines(recordings, how)]
    notes += resize_lines(recordings.size, how)
    sets = {"all": recordings} if file else _recording_parts(settings, recordings, notes)
    folder = recordings.folder
    files = [] if folder is None else list(dict.fromkeys(folder / n for n in recordings.names))
    most = _affordable(sets, files, check)
    with _bar(sum(most.values())) as bar:
        parts = [recording_figures(*part, how, most[part[0]], bar.update) for part in sets.items()]
    shown = how._asdict().items()
    words = [f"{key} {value}" for key, value in shown if value is not None and _matters(key, how)]
    words += [
        f"{key} {value}" for key, value in how.filters._asdict().items() if value not in (None, 1)
    ]
    look = told(about, ", ".join(words), parts, recordings.classes, recordings.size, notes)
    own = recordings.folder == Path(data.dataset).expanduser()
    return look, files, folder if own or folder is None else _shared(files)


def _affordable(
    sets: Mapping[str, ClipSet | RecordingSet], files: list[Path], check: bool
) -> dict[str, int]:
    """How many samples of every part are looked at: all with `check`, else as many as MOST and the
    size of the files allow."""
    if check:
        return {name: len(part) for name, part in sets.items()}
    share = min(1.0, MOST_READ / max(1, sum(path.stat().st_size for path in files)))
    n = {name: max(LEAST, min(MOST, int(share * len(part)))) for name, part in sets.items()}
    return {name: min(n[name], len(part)) for name, part in sets.items()}


def _matters(key: str, how: Framing) -> bool:
    """Whether a line of a framing has an effect on the frames."""
    return key in ("framing", "n_steps", "frame_size") or {
        "frame_resize": how.frame_size is not None,
        "dt_ms": how.framing in TIMED,
        "time_zero": how.framing in TIMED,
        "stride_ms": how.framing in TIMED,
        "surface_tau_ms": how.framing == "time_surface",
        "events_per_step": how.framing == "event_count",
    }.get(key, False)


def _opened(settings: VisionSettings) -> RecordingSet:
    """The recordings; a folder that holds none is told what it holds instead."""
    data = settings.data
    try:
        sensor, unit = settings.frames.sensor, settings.frames.time_unit
        return open_recordings(data.dataset, data.root, data.download, sensor, unit)
    except DataError as error:
        if data.dataset in DATASETS or not (folder := Path(data.dataset).expanduser()).is_dir():
            raise
        rows = found.skipped(folder, [])
        if any(row.reason == found.FITS for row in rows):
            raise
        held = ", ".join(f"{row.n} {row.reason} ({row.first})" for row in rows)
        hint = found.advice(rows)
        raise DataError(f"{error}; found there: {held or 'nothing'}{hint and '; '}{hint}") from None


def _recording_parts(
    settings: VisionSettings, recordings: RecordingSet, notes: list[str]
) -> dict[str, RecordingSet]:
    """The parts as a run would have them, what it would not use, or all if it would refuse."""
    frames, data = settings.frames, settings.data
    how = (frames.split, settings.training.seed, frames.n_labelled, frames.test_fraction)
    try:
        split = split_recordings(recordings, None, *how, data.valid_fraction)
    except DataError as error:
        notes.append(f"warning: a run would stop: {error}")
        return {"all": recordings}
    index = dict(zip(PARTS, split, strict=False))
    used = np.concatenate(list(index.values()))
    index["not used"] = np.setdiff1d(np.arange(len(recordings)), used)
    return {name: recordings.subset(part) for name, part in index.items() if len(part)}


def one_clip(path: Path, reading: Reading) -> ClipSet | WaveSet:
    """A set of one clip, of the class that its folder is called: a text of spikes or an audio file.
    Errors: EventFormatError if a text is damaged, DataError for what `reading` says of spikes
    only."""
    name = path.absolute().parent.name
    if one_sample(path) == "audio file":
        listed = [Listed(path.name, name)]
        return wave_sets(str(path), path.parent, listed)["train"].read_as(reading)
    return replace(text_clip(read_bytes(path), str(path), reading, name), names=[str(path)])


def one_recording(
    path: Path, time_unit: str | None = None, sensor: tuple[int, int] | None = None
) -> RecordingSet:
    """A set of one recording, of the class that its folder is called. `time_unit`: as `read_events`
    takes it; `sensor`: (height, width), if it is stated. Errors: DataError for a file that is none
    or of another sensor, EventFormatError if it is damaged."""
    hint = found.advice([found.Skipped(f"{path.suffix.lower()} file", 1, path.name)])
    try:
        events, size = read_events(path, None, time_unit), sensor_size(path)
    except DataError as error:
        raise DataError(f"{error}{hint and ': '}{hint}") from None
    if sensor is not None:
        check_sensor(path, sensor, size, size_of(events))
    if (size := size or sensor) is None:
        H, W = size_of(events)
        size = (max(H, 1), max(W, 1))
    label, classes = np.zeros(1, np.int64), [path.absolute().parent.name]
    names = [path.name]
    return RecordingSet(
        str(path), label, classes, names, size, names, lambda i: events,
        folder=path.absolute().parent,
    )  # fmt: skip


def _files(files: list[Path], folder: Path | None, check: bool) -> dict[str, Any]:
    """How many files and bytes, and their SHA-256 if they are not too large."""
    sizes = [path.stat().st_size for path in files]
    known: dict[str, Any] = {"n": len(files), "bytes": sum(sizes), "folder": str(folder or "")}
    if check or sum(sizes) <= MOST_BYTES:
        if folder is None or len(files) < FEW:
            known["sha256"] = {str(path): found.sha256_of(path) for path in files}
        else:
            known["sha256_of_all"] = found.sha256_of_all(folder, files)
    return known


def _archives(settings: Settings, check: bool) -> list[dict[str, Any]]:
    """The archives of a named set that lie where a download leaves them; with `check` whether they
    are those that were published."""
    data: Any = settings.data
    folder, rows = Path(data.root).expanduser() / DATASETS[data.dataset].archives, []
    for (place, _), archive in ARCHIVES.items():
        path = folder / archive.name
        if place == folder.name and path.is_file():
            right = md5_of(path) == archive.md5 if check else None
            rows.append({"file": str(path), "as_published": right})
    return rows


def _shared(files: list[Path]) -> Path:
    """The innermost folder that holds all files."""
    return Path(os.path.commonpath([path.parent for path in files]))


def _trials(settings: MemorySettings) -> dict[str, Any]:
    """A memory task: how long its trials are, and what guessing reaches, for some N."""
    task, data, course = open_task(settings.data.dataset), settings.data, settings.curriculum
    last = course.n_start if course.curriculum == "single" else course.n_max
    rows = []
    for n in np.unique(np.linspace(course.n_start, last, 6).astype(int)).tolist():
        odd = {}
        for name, draw in (("training", task.train_batch), ("validation", task.valid_batch)):
            batches = [draw([n], TRIALS, settings.training.seed, 0, k) for k in range(BATCHES)]
            odd[name] = float(np.mean([batch.label_HB.double().mean() for batch in batches]))
        lengths = [n + SHORTEST, n + SHORTEST + int(task.spread * n)]
        chance = {name: max(share, 1 - share) for name, share in odd.items()}
        rows.append({"n": n, "bits": lengths, "label_1": odd, "chance": chance})
    drawn = {"per_epoch": data.batch_size * data.steps_per_epoch, "to_test": data.n_test}
    return {"trials": drawn, "tasks": rows, "estimated_from": TRIALS * BATCHES}


def _bar(n: int) -> tqdm:
    return tqdm(
        total=n, desc="reading", unit=" samples", leave=False, disable=not sys.stderr.isatty()
    )
