"""Clips for a run that is over: its test clips or other ones, labelled or not."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.audio.frames import Framing, frames
from ..data.audio.log_mel import LogMel
from ..data.audio.sets import ClipSet
from ..data.audio.spike_files import text_clip
from ..data.audio.survey import Survey, survey
from ..data.audio.waves import WaveSet, file_frames
from ..data.audio.windows import cut
from ..data.catalog import DATASETS, open_clips, open_splits
from ..data.unlabelled import find_clips, find_waves
from ..errors import DataError, EventFormatError
from .audio import AudioJob, framing_of, looked_at, reading_of
from .other import Other, Sample, same_place
from .settings import AudioSettings
from .waves import log_mel_of


def open_test(
    settings: AudioSettings, state: Mapping[str, Any], other: Other, device: torch.device
) -> AudioJob:
    """The job of a run with this checkpoint of which only the test clips are needed, or other ones,
    on a device; its training clips need not be there, so that their digest says nothing.

    Raises DataError, EventFormatError or ConfigError.
    """
    clips, warned = _open(settings, other.data)
    test, said = other.matched(clips, state["classes"])
    _check(settings, state, test)
    (*_, test), held, more = looked_at(settings, (None, None, test), device)
    said = [*warned, *said, *more]
    return AudioJob(settings, {}, test, None, test, held, said=tuple(said))


def samples(
    settings: AudioSettings, state: Mapping[str, Any], other: Other, text: bytes | None
) -> tuple[Iterator[Sample], list[str]]:
    """(the clips of other data, in order, what there is to say about all of them). `text`: events
    `t unit` of one clip, in place of data. Errors: DataError if there are none."""
    if state.get("waves"):
        return _waves(settings, other, text)
    reading = reading_of(settings)._replace(skip_bad=True)  # each bad clip is to be told
    n_units = state["sizes"]["n_in"] * settings.frames.units_per_channel
    said = []
    if settings.frames.n_steps is None:
        said = ["the run has no --n-steps: the clips of a file are made as long as its longest"]
    if text is not None:
        clips = text_clip(text, "standard input", reading._replace(n_units=n_units))
        files: list = [("-", lambda: clips)]
    elif other.data in DATASETS:
        clips = open_clips(other.data, settings.data.root, "test", False, None, reading)
        _check(settings, state, clips)
        files = [(clips.name, lambda: clips)]
    else:
        files, more = find_clips(str(other.data), reading, n_units)
        said += [*more, *_warning(settings, other.data)]
    return _each(settings, state, files), said


def _warning(settings: AudioSettings, data: str | None) -> list[str]:
    """That clips are no test, if they are not."""
    if data is None or not same_place(data, settings.data.dataset):
        return []
    return [f"warning: {data} is what the run was trained on: this is no test"]


def _open(settings: AudioSettings, other: str | None) -> tuple[ClipSet | WaveSet, list[str]]:
    """The test clips of a run, those of another set, or all of one that has none; and that they are
    no test, if they are not."""
    data, reading = settings.data, reading_of(settings)
    if other is None or other in DATASETS:
        name, file = (data.dataset, settings.frames.test_file) if other is None else (other, None)
        return open_clips(name, data.root, "test", False, file, reading), []
    splits = open_splits(other, data.root, False, reading)
    warned = [] if "test" in splits else _warning(settings, other)
    return splits.get("test", next(iter(splits.values())))(), warned


def _waves(
    settings: AudioSettings, other: Other, text: bytes | None
) -> tuple[Iterator[Sample], list[str]]:
    """The audio files of other data, as `samples`."""
    if text is not None:
        raise DataError("the run is of audio files, and standard input holds events: name a file")
    said = _warning(settings, other.data)
    if other.data in DATASETS:
        clips: Any = open_clips(other.data, settings.data.root, "test", False, None)
        if not isinstance(clips, WaveSet):
            raise DataError(f"{other.data} are spikes, and the run is of audio files")
        labels = [clips.classes[k] for k in clips.labels.tolist()]
        files = [
            (clips.identity(i), label, Path(clips.identity(i))) for i, label in enumerate(labels)
        ]
    else:
        files, more = find_waves(str(other.data))
        said += more
    return _each_wave(files, log_mel_of(settings).check(), settings.frames.reverse), said


def _each_wave(files: list[tuple[str, str, Path]], how: LogMel, reverse: bool) -> Iterator[Sample]:
    """Audio files, read one by one; each window of a file is a sample."""
    for name, label, path in files:
        windows = file_frames(path, how)
        for k in itertools.count():
            started = time.perf_counter()
            at = name if how.window_ms is None else f"{name}, window {k}"
            try:
                if (x_TC := next(windows, None)) is None:
                    break
            except DataError as error:
                yield Sample(at, label, error=str(error))
                break
            x_TC = np.ascontiguousarray(x_TC[::-1]) if reverse else x_TC
            yield Sample(at, label, x_TC, x_TC.size, x_TC.size, time.perf_counter() - started)


def _check(settings: AudioSettings, state: Mapping[str, Any], clips: ClipSet | WaveSet) -> None:
    """DataError if the network of this checkpoint cannot hear these clips."""
    if isinstance(clips, WaveSet) != bool(state.get("waves")):
        kinds = ("audio files", "spikes")
        has, wanted = kinds if isinstance(clips, WaveSet) else kinds[::-1]
        raise DataError(f"{clips.name} are {has}, and the run is of {wanted}")
    if isinstance(clips, ClipSet):
        _framing(settings, state, clips)


def _framing(settings: AudioSettings, state: Mapping[str, Any], clips: ClipSet) -> Framing:
    """How clips become frames. DataError if the network of this checkpoint cannot hear them."""
    n_units = state["sizes"]["n_in"] * settings.frames.units_per_channel
    if clips.n_units != n_units:
        raise DataError(
            f"the clips of {clips.name} have {clips.n_units} units, and the run's network takes "
            f"{n_units}"
        )
    return framing_of(settings, clips)


def _each(
    settings: AudioSettings,
    state: Mapping[str, Any],
    files: list[tuple[str, Callable[[], ClipSet]]],
) -> Iterator[Sample]:
    """The clips of all files, read one by one after a look at all of a file."""
    warm = False
    for name, opened in files:
        try:
            clips = opened()
            if settings.frames.window_ms is not None:
                clips, _ = cut(clips, settings.frames.window_ms, settings.frames.window_overlap)
            how = _framing(settings, state, clips)
            found = survey(clips, how)
        except (DataError, EventFormatError) as error:
            yield Sample(name, error=str(error))
            continue
        if how.n_steps is None and len(found.why) < len(clips):
            good = [n for i, n in enumerate(found.n_steps.tolist()) if i not in found.why]
            how = how._replace(n_steps=max(good))
        clips = replace(clips, name=name)
        if not warm:  # else the first clip would say how long kernels take to compile
            _sample(clips, 0, how, found)
            warm = True
        yield from (_sample(clips, i, how, found) for i in range(len(clips)))


def _sample(clips: ClipSet, i: int, how: Framing, found: Survey) -> Sample:
    """One clip as frames."""
    started = time.perf_counter()
    k = int(clips.labels[i])
    label = clips.classes[k] if k >= 0 else None
    name = clips.name if len(clips) == 1 else clips.identity(i)
    try:
        if i in found.why:
            raise DataError(f"{name}: {found.why[i]}")
        events = clips[i][0]
        x_TC = frames(
            events, how.dt_us, how.units_per_channel, how.n_units, how.n_steps, how.framing
        )
    except (DataError, EventFormatError) as error:
        return Sample(name, label, error=str(error))
    seconds = time.perf_counter() - started
    return Sample(name, label, x_TC, int(found.n_inside[i]), len(events), seconds)
