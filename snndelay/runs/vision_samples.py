"""Recordings for a run that is over: its test recordings or other ones, labelled or not."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..data.catalog import DATASETS, open_recordings
from ..data.events import Events, pixels
from ..data.unlabelled import find_recordings
from ..data.vision.clock import clock_lines, lasting_us, short_lines
from ..data.vision.filters import seen_size
from ..data.vision.formats import check_sensor, size_of
from ..data.vision.framing import Framing, framed, resize_lines, resized
from ..data.vision.loader import recording_frames
from ..data.vision.readers.text import parse_text, sensor_in
from ..data.vision.sets import RecordingSet
from ..data.vision.split import Split
from ..data.vision.usable import usable_recordings
from ..errors import DataError, EventFormatError
from .files import frames_folder
from .other import Other, Sample, same_place
from .session import check_same
from .settings import VisionSettings
from .vision import VisionJob, framing_of, open_job


def open_test(
    settings: VisionSettings, state: Mapping[str, Any], other: Other, device: torch.device
) -> VisionJob:
    """The job of a run with this checkpoint, on a device: its test recordings are those of the
    split that is drawn anew, or other ones, framed as the run's were.

    Raises ConfigError, EventFormatError, or DataError, also if the run's own data have changed.
    """
    if _is_own(settings, other.data):
        return _own(settings, state, device)
    recordings, said = _open(settings, state, other)
    recordings, more = other.matched(recordings, state["classes"])
    framing, folder = framing_of(settings), frames_folder(settings)
    more += clock_lines(recordings, framing) + resize_lines(recordings.size, framing)
    if settings.data.skip_bad:
        recordings, left_out = usable_recordings(recordings, framing, folder)
        more += left_out
    frames = recording_frames(recordings, framing, folder)
    frames = frames.placed(device, settings.machine.data_on)
    none, every = np.zeros(0, np.int64), np.arange(len(recordings))
    split = Split(none, none, every, none, "none")
    held = (frames, None, frames, None, recordings, None, split)
    return VisionJob(settings, {}, *held, device, (*said, *more))


def samples(
    settings: VisionSettings, state: Mapping[str, Any], other: Other, text: bytes | None
) -> tuple[Iterator[Sample], list[str]]:
    """(the recordings of other data, in order, what there is to say about them). `text`: events
    `t x y p` of one recording, in place of data. Errors as `open_test`."""
    framing = framing_of(settings)
    if text is not None:
        size = _sensor(settings, state, other)
        _check_size(settings, state, size)
        events = parse_text(text, "standard input", None, settings.frames.time_unit)
        check_sensor("standard input", size, sensor_in(text, "standard input"), size_of(events))
        said = short_lines(lasting_us(events), framing) + resize_lines(size, framing)
        return iter([_sample(lambda: events, "-", None, size, framing)]), said
    if _is_own(settings, other.data):
        job = _own(settings, state, None)
        recordings = job.recordings.subset(job.split.test)
        said = ["these are the run's own data: its test recordings are predicted, no others"]
    elif other.data in DATASETS:
        recordings, said = _open(settings, state, other)
    else:
        size = _sensor(settings, state, other)
        recordings, said = find_recordings(str(other.data), size, settings.frames.time_unit)
    _check_size(settings, state, recordings.size)
    said += clock_lines(recordings, framing) + resize_lines(recordings.size, framing)
    return _each(recordings, framing), said


def _own(
    settings: VisionSettings, state: Mapping[str, Any], device: torch.device | None
) -> VisionJob:
    """The job of the run itself, with its test recordings also where it was to have none."""
    if settings.data.protocol == "validation":
        settings = replace(settings, data=replace(settings.data, protocol="clean"))
    job = open_job(settings, device)
    check_same(job, state["data"])
    return job


def _is_own(settings: VisionSettings, data: str | None) -> bool:
    """Whether these are the data of which a part trained the run."""
    own = settings.data.dataset
    return data is None or data == own or same_place(data, own)


def _open(
    settings: VisionSettings, state: Mapping[str, Any], other: Other
) -> tuple[RecordingSet, list[str]]:
    """Recordings of other data, the official test part where there is one."""
    name = str(other.data)
    named = name in DATASETS  # whose unit of time is known
    size = None if named else _sensor(settings, state, other)
    unit = None if named else settings.frames.time_unit
    recordings = open_recordings(name, settings.data.root, size=size, time_unit=unit)
    recordings = replace(recordings, size=other.sensor or recordings.size)
    _check_size(settings, state, recordings.size)
    said = [*recordings.said]
    if (part := recordings.in_test) is not None:
        said.append(f"of {name} its test part, {part.sum()} of {len(recordings)} recordings")
        recordings = recordings.subset(np.flatnonzero(part))
    return recordings, said


def _sensor(settings: VisionSettings, state: Mapping[str, Any], other: Other) -> tuple[int, int]:
    """Height and width of the sensor of recordings that do not say it: as asked for, else that of
    the run. DataError if a run of an earlier version does not know it."""
    if other.sensor is not None:
        return other.sensor
    if (size := state.get("sensor")) is None and settings.frames.frame_size is None:
        size = state["sizes"]["size"]
    if size is None:
        try:
            data, unit = settings.data, settings.frames.time_unit
            stated = settings.frames.sensor
            size = open_recordings(data.dataset, data.root, size=stated, time_unit=unit).size
        except (DataError, EventFormatError):
            raise DataError(
                "this run does not say from which sensor its frames were resized: give --sensor "
                "HEIGHT WIDTH"
            ) from None
    return size[0], size[1]


def _check_size(settings: VisionSettings, state: Mapping[str, Any], size: tuple[int, int]) -> None:
    """DataError for a sensor of which the run makes no frames for its network."""
    seen = seen_size(size, settings.filters.shrink)
    taken = (*state["sizes"]["size"],)
    if settings.frames.frame_size is None and seen != taken:
        raise DataError(
            f"the recordings are of {pixels(seen)}, and the run's network takes frames of "
            f"{taken[0]} x {taken[1]}: train one with --frame-size, or with --sensor if the sensor "
            "is the same"
        )


def _each(recordings: RecordingSet, framing: Framing) -> Iterator[Sample]:
    """Recordings, read one by one."""
    for i, k in enumerate(recordings.labels.tolist()):
        name, label = recordings.names[i], recordings.classes[k]
        how = (lambda i=i: recordings[i][0], name, label, recordings.size, framing)
        if i == 0:  # else the first recording would say how long kernels take to compile
            _sample(*how)
        yield _sample(*how)


def _sample(
    read: Callable[[], Events],
    name: str,
    label: str | None,
    size: tuple[int, int],
    framing: Framing,
) -> Sample:
    """One recording as frames; read: () -> its events."""
    started = time.perf_counter()
    try:
        x_TPHW, (n_inside, n_left, *_) = framed(read(), size, framing, name)
    except EventFormatError as error:
        return Sample(name, label, error=str(error))
    except DataError as error:
        text = str(error)
        return Sample(name, label, error=text if name in text else f"{name}: {text}")
    x_TPHW = resized(x_TPHW, framing).astype(np.float32, copy=False)
    return Sample(name, label, x_TPHW, n_inside, n_left, time.perf_counter() - started)
