"""Every format of recordings, written by tests/helpers_formats.py: whole, cut, and damaged."""

import importlib
import os
import tracemalloc
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.atis import Packed
from snndelay.data.vision.formats import (
    ENDINGS,
    READERS,
    read_events,
    read_recording,
    reader_of,
    sensor_size,
    size_seen,
)
from snndelay.errors import DataError, EventFormatError

from ...helpers_formats import (
    FORMATS,
    assert_same,
    check_damaged,
    mutants,
    put,
    random_events,
    sample,
    scattered,
)

HDF5 = ("dsec", "metavision")  # a damaged file may take libhdf5 a millisecond
# whose files do not say the size of the sensor
NAMELESS = ("atis", "npz", "npy", "dsec", "dat without header")


def as_read(name: str, events: Events) -> Events:
    """The clock of AEDAT4 begins with the first event."""
    start_us = events.t_us.min(initial=2**62) if name == "aedat4" else 0
    return Events(events.t_us - start_us, events.x, events.y, events.p)


def reading(path: Path, size):
    """Bytes -> events; through a file only where the reader needs one, because disks are slow."""
    module, function = READERS[path.suffix].read.rsplit(".", 1)
    module = importlib.import_module(f"snndelay.data.vision.{module}")
    if parse := getattr(module, function.replace("read_", "parse_"), None):
        return lambda raw: parse(raw, "a", size)

    def read(raw: bytes) -> Events:
        put(path, raw)
        sensor_size(path)
        return read_events(path, size)

    return read


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n", [0, 1, 63, 1000])
def test_events_come_back(tmp_path, name, n):
    raw, want, size = sample(name, n, seed=n)
    path = tmp_path / f"a recording ü{FORMATS[name][0].upper()}"
    path.write_bytes(raw)
    if not raw and name != "atis":  # of a format without a header: more likely cut than silent
        with pytest.raises(EventFormatError, match="the file is empty"):
            read_events(path)
        return
    for given in (size, None):
        got = read_events(path, given)
        assert_same(got, as_read(name, want))
        assert got.t_us.dtype == np.int64, "times must be int64"
        got.validate(size[1], size[0])
    assert sensor_size(path) == (None if name in NAMELESS else size)
    rows, columns = (int(part.max(initial=-1)) + 1 for part in (np.asarray(want.y), want.x))
    assert size_seen(path) == ((rows, columns) if name in NAMELESS else size)
    kept = read_recording(path, size)
    assert isinstance(kept, Packed) == (path.suffix.lower() == ".bin")
    assert_same(kept.events() if isinstance(kept, Packed) else kept, as_read(name, want))


@pytest.mark.parametrize("name", FORMATS)
def test_the_far_corner_is_on_the_sensor_and_the_next_pixel_is_not(tmp_path, name):
    ending, write, size, _ = FORMATS[name]
    H, W = size
    path = tmp_path / f"a{ending}"
    here = [np.array([part]) for part in (5, W - 1, H - 1, 1)]
    path.write_bytes(write(Events(*here), size))
    assert_same(read_events(path, size), as_read(name, Events(*here)))
    for smaller in ((H - 1, W), (H, W - 1)):
        with pytest.raises(EventFormatError, match=r"off the sensor"):
            read_events(path, smaller)


@pytest.mark.parametrize("name", FORMATS)
def test_truncation_at_every_byte(tmp_path, name):
    """A cut is an error, or leaves the first events as they are."""
    raw, want, size = sample(name, 24, seed=3)
    read, want, cut = reading(tmp_path / f"a{FORMATS[name][0]}", size), as_read(name, want), 0
    for end in range(0, len(raw), 1 if len(raw) < 4000 else 7):
        try:
            got = read(raw[:end])
        except EventFormatError as caught:
            cut += 1
            if not 0 <= (caught.offset or 0) <= end:
                pytest.fail(f"cut at {end}: {caught}")
            continue
        if name == "text" and len(got):  # the last number may have lost digits
            got = got.select(slice(len(got) - 1))
        assert_same(got, want.select(slice(len(got))))
    assert cut > len(raw) / 20, f"{cut} cuts of {len(raw)} were found"


def damaged(tmp_path, name: str, n: int, seed: int) -> dict[str, int]:
    made = [sample(name, 30, seed=seed + k)[0] for k in range(20)]
    size = FORMATS[name][2]
    read = reading(tmp_path / f"a{FORMATS[name][0]}", size)
    n_early = n // 2
    files = chain(mutants(made, n_early, seed), scattered(made, n - n_early, seed))
    return check_damaged(read, files, size)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_valid_events_or_a_format_error(tmp_path, name):
    seen = damaged(tmp_path, name, 1_000 if name in HDF5 else 10_000, seed=0)
    assert min(seen.values()) > 20, f"the mutants test one side only: {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("name", HDF5)
def test_ten_thousand_damaged_files(tmp_path, name):
    damaged(tmp_path, name, 10_000, seed=100)


@pytest.mark.parametrize("name", FORMATS)
def test_memory_stays_within_reason(tmp_path, name):
    raw, _, size = sample(name, 20_000, seed=1)
    path = tmp_path / f"a{FORMATS[name][0]}"
    path.write_bytes(raw)
    read_events(path, size)  # compiles
    tracemalloc.start()
    events = read_events(path, size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * len(events) + 2 * len(raw), f"{peak / len(events):.0f} bytes per event"


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_file_and_empty_files(tmp_path, ending):
    with pytest.raises(DataError, match="cannot read the recording"):
        read_events(tmp_path / f"none{ending}")
    with pytest.raises(DataError, match="cannot read the recording"):
        sensor_size(tmp_path / f"none{ending}")
    (tmp_path / f"folder{ending}").mkdir()
    with pytest.raises(DataError, match="cannot read the recording"):
        read_events(tmp_path / f"folder{ending}")
    path = tmp_path / f"empty{ending}"
    path.touch()
    if ending in (".bin", ".txt", ".csv"):
        assert len(read_events(path)) == 0
    else:
        with pytest.raises(EventFormatError):
            read_events(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, ending):
    os.mkfifo(tmp_path / f"a{ending}")
    for read in (read_events, sensor_size):
        with pytest.raises(DataError, match="a pipe or a device is no file"):
            read(tmp_path / f"a{ending}")


def test_a_signature_wins_over_an_ending(tmp_path):
    for name, ending in (("aedat2", ".aedat4"), ("aedat4", ".aedat"), ("dsec", ".dat")):
        raw, want, _ = sample(name, 20, seed=2)
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(raw)
        assert_same(read_events(path), as_read(name, want))


def test_a_unit_of_time_is_for_formats_that_name_none(tmp_path):
    for name in FORMATS:
        raw, want, size = sample(name, 20, seed=4)
        path = tmp_path / f"{name}{FORMATS[name][0]}"
        path.write_bytes(raw)
        factor = 1000 if name in ("npz", "npy") else 1
        want = Events(as_read(name, want).t_us * factor, want.x, want.y, want.p)
        if name != "text":  # which is in seconds here
            assert_same(read_events(path, size, "ms"), want)
    assert {ending for ending, reader in READERS.items() if reader.timed} == {
        ".npz",
        ".npy",
        ".txt",
        ".csv",
    }
    with pytest.raises(DataError, match="unknown unit of time 'm': "):
        read_events(path, size, "m")


def test_other_endings_are_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"1")
    with pytest.raises(DataError, match=r"must end in \.bin, .* or \.csv"):
        reader_of(tmp_path / "a.mp4")


def test_one_format_under_the_name_of_another_is_an_error(tmp_path):
    """Bytes of every format under every ending: right, or one sentence."""
    said = []
    for name in FORMATS:
        raw = sample(name, 20, seed=1)[0]
        for ending in ENDINGS:
            path = tmp_path / f"{name}{ending}"
            path.write_bytes(raw)
            try:
                read_events(path).validate(2048, 2048)
            except EventFormatError as caught:
                said.append(f"{caught}")
    assert said and not any("\n" in words for words in said)


def test_the_largest_sensor_is_framed():
    from snndelay.data.vision.frames import frames

    events = random_events(5_000, 0)
    for kind in (np.int16, np.int32):
        parts = [getattr(events, part).astype(kind) for part in "xyp"]
        x_TPHW = frames(Events(events.t_us, *parts), (720, 1280), n_steps=3)
        assert x_TPHW.sum() == 5_000, "an event was lost or counted twice"


def test_the_table_is_whole():
    for ending, reader in READERS.items():
        assert ending == ending.lower() and reader.title, ending


@pytest.mark.skipif(not os.environ.get("SNNDELAY_DATA"), reason="set SNNDELAY_DATA")
def test_real_recordings_through_the_table():
    from snndelay.data.vision.atis import read_atis

    files = sorted(Path(os.environ["SNNDELAY_DATA"], "nmnist").rglob("*.bin"))[::100]
    for path in files:
        assert_same(read_events(path, (34, 34)), read_atis(path))
