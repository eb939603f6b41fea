import os
import pickle
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snndelay.data.audio.shd import ShdFile, write_shd
from snndelay.data.events import Events
from snndelay.errors import DataError, EventFormatError

from ...helpers_data import CLASSES, clips_s, small_file, write_file
from ...helpers_formats import put, scattered

IN_MEMORY, CLIP_BY_CLIP = 2**30, 0
CHUNKED = {"chunks": (5,), "maxshape": (None,)}


@pytest.mark.parametrize("in_memory_bytes", [IN_MEMORY, CLIP_BY_CLIP])
@pytest.mark.parametrize("layout", [{}, CHUNKED, {**CHUNKED, "compression": "gzip"}])
def test_reads_what_h5py_wrote(tmp_path, layout, in_memory_bytes):
    times, units = clips_s(12)
    times[3], units[3] = times[3][:0], units[3][:0]
    path = write_file(tmp_path / "a.h5", times, units, speakers=np.arange(12) % 4, **layout)
    file = ShdFile(path, in_memory_bytes=in_memory_bytes)
    assert (len(file), file.n, file.classes) == (12, 12, CLASSES)
    assert file.labels.tolist() == [i % 3 for i in range(12)]
    assert file.speakers.tolist() == [i % 4 for i in range(12)]
    for i in (*range(12), -1):
        got = file.events(i).validate(700)
        assert np.array_equal(got.t_us, [round(float(t) * 1e6) for t in times[i]]), f"clip {i}"
        assert np.array_equal(got.x, units[i]), f"units of clip {i}"
        assert (got.t_us.dtype, got.x.dtype) == (np.int64, np.uint16)
    with pytest.raises(IndexError):
        file.events(12)


def test_float16_seconds_become_exact_microseconds(tmp_path):
    seconds = np.array([0, 2**-24, 0.1, 0.5, 1.5, 2.0, 65504], np.float16)
    path = write_file(tmp_path / "a.h5", [seconds], [np.arange(7)])
    want = [0, 0, 99976, 500_000, 1_500_000, 2_000_000, 65_504_000_000]
    assert ShdFile(path).events(0).t_us.tolist() == want, "float16 * 1e6 would be inf"


def test_speakers_are_optional_and_big_endian_is_read(tmp_path):
    path = small_file(tmp_path / "a.h5", 3)
    assert ShdFile(path).speakers is None
    with h5py.File(path, "a") as file:
        units = [row.astype(">u2") for row in file["spikes/units"][:]]
        del file["spikes/units"]
        kind = h5py.vlen_dtype(np.dtype(">u2"))
        data = file.create_dataset("spikes/units", (3,), kind)
        for i, row in enumerate(units):
            data[i] = row
    assert np.array_equal(ShdFile(path).events(1).x, units[1]), "big-endian units are misread"


def test_pickles_as_its_path(tmp_path):
    file = ShdFile(small_file(tmp_path / "a.h5"), in_memory_bytes=CLIP_BY_CLIP)
    want = file.events(2)
    copy = pickle.loads(pickle.dumps(file))
    assert np.array_equal(copy.events(2).t_us, want.t_us)
    loaded = ShdFile(file.path)
    loaded.events(0)
    assert len(pickle.dumps(loaded)) < 5000, "spikes must not travel with the pickle"


def change(path: Path, name: str, value) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize("name", ["spikes/times", "spikes/units", "labels"])
def test_missing_data_set_is_named(tmp_path, name):
    path = small_file(tmp_path / "a.h5")
    change(path, name, None)
    with pytest.raises(EventFormatError, match=f"lacks {name}"):
        ShdFile(path)


@pytest.mark.parametrize("names", [np.array([b"low", b"high"]), ["low", "high"]])
def test_labels_and_speakers_may_be_names(tmp_path, names):
    """Of one length, or of any."""
    path, at = small_file(tmp_path / "a.h5"), np.arange(12) % 2
    text = np.array(names)[at] if isinstance(names, np.ndarray) else [names[k] for k in at]
    change(path, "labels", text)
    with h5py.File(path, "a") as file:
        file["extra/speaker"] = text
    file = ShdFile(path)
    assert file.classes == ["high", "low"] and file.labels.tolist() == (1 - at).tolist()
    assert file.speakers is not None and file.speakers.tolist() == (1 - at).tolist()


def test_without_names_the_numbers_are_the_classes(tmp_path):
    path = small_file(tmp_path / "a.h5")
    change(path, "extra/keys", None)
    change(path, "labels", np.arange(12) % 2 * 7)
    file = ShdFile(path)
    assert file.classes == ["0", "7"] and file.labels.tolist() == [0, 1] * 6


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("labels", np.zeros(5, np.int64), "lengths differ"),
        ("labels", np.full(12, 3), "clip 0: label 3 lies outside the 3 classes"),
        ("labels", np.arange(12) - 1, "label -1"),
        ("labels", np.zeros(12), "expected .* integers"),
        ("labels", np.zeros((12, 1), np.int64), "lengths differ"),
        ("extra/speaker", np.zeros(3, np.int64), "3 speakers for 12 clips"),
        ("extra/keys", np.arange(3), "not text"),
        ("extra/keys", np.array([b"a", b"b", b"a"]), "two classes are called 'a': rename one"),
        ("spikes/times", np.zeros(12), "spikes/times has type"),
    ],
)
def test_broken_layout_is_named(tmp_path, name, value, word):
    path = small_file(tmp_path / "a.h5", speakers=np.arange(12))
    change(path, name, value)
    with pytest.raises(EventFormatError, match=word):
        ShdFile(path)


@pytest.mark.parametrize("in_memory_bytes", [IN_MEMORY, CLIP_BY_CLIP])
@pytest.mark.parametrize(
    ("part", "value", "word"),
    [
        ("times", np.float16(-0.001), "negative or not finite"),
        ("times", np.float16(np.nan), "negative or not finite"),
        ("times", np.float16(np.inf), "negative or not finite"),
        ("units", np.uint16(700), "0..699"),
        ("shorter", None, "times but"),
    ],
)
def test_bad_clip_is_named(tmp_path, part, value, word, in_memory_bytes):
    times, units = clips_s(6)
    if part == "shorter":
        units[4] = units[4][:-1]
    else:
        {"times": times, "units": units}[part][4][7] = value
    file = ShdFile(write_file(tmp_path / "a.h5", times, units), in_memory_bytes=in_memory_bytes)
    with pytest.raises(EventFormatError, match=f"clip 4: .*{word}") as caught:
        file.events(4)
    assert (caught.value.path, caught.value.offset) == (file.path, 4)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match="no file"):
        ShdFile(tmp_path / "none.h5")
    for content in (b"", b"PK\x03\x04 not HDF5", b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(EventFormatError, match="not a whole HDF5 file"):
            ShdFile(tmp_path / "a.h5")


def read_all(path: Path, in_memory_bytes: int) -> str:
    """ "valid" or "refused"; every other error is the test's failure."""
    try:
        file = ShdFile(path, in_memory_bytes=in_memory_bytes)
        for i in range(len(file)):
            file.events(i).validate(700)
    except EventFormatError:
        return "refused"
    return "valid"


def test_truncation_anywhere_is_refused(tmp_path):
    whole = small_file(tmp_path / "a.h5", speakers=np.arange(12)).read_bytes()
    for size in np.linspace(0, len(whole) - 1, 200).astype(int):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        assert read_all(tmp_path / "cut.h5", IN_MEMORY) == "refused", f"{size} of {len(whole)}"


LAYOUTS = {
    "contiguous": {},
    "chunked": CHUNKED,
    "gzip": {"chunks": (2,), "compression": "gzip"},
    "lzf": {"chunks": (2,), "compression": "lzf", "shuffle": True},
}


def read_mutants(folder: Path, layout: dict, n: int, seed: int) -> dict[str, int]:
    """How many of `n` damaged files are "valid" and "refused". `read_all` says what fails."""
    whole = small_file(folder / "a.h5", 4, speakers=np.arange(4), **layout).read_bytes()
    slowest, counts = 0.0, {"valid": 0, "refused": 0}
    for k, mutant in enumerate(scattered([whole], n, seed)):
        put(folder / "m.h5", mutant)
        start = time.perf_counter()
        counts[read_all(folder / "m.h5", k % 2 * IN_MEMORY)] += 1
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 1, f"one mutant took {slowest:.1f} s"
    return counts


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_mutants_are_valid_or_refused(tmp_path, layout):
    counts = read_mutants(tmp_path, layout, 500, seed=5)
    assert min(counts.values()) > 50, f"the mutants should be of both kinds: {counts}"


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_ten_thousand_mutants(tmp_path, layout):
    read_mutants(tmp_path, layout, 10_000, seed=6)


def test_absurd_length_is_refused_before_memory_is_taken(tmp_path):
    path = small_file(tmp_path / "a.h5", 4)
    with h5py.File(path) as file:
        at = file["spikes/times"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[at : at + 4] = b"\xff\xff\xff\x7f"
    path.write_bytes(raw)
    with pytest.raises(EventFormatError, match="claims"):
        ShdFile(path)


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("extra/keys", (2**17,), "S65535"),  # 8.6 GB, of which nothing was ever written
        ("labels", (2**34,), "<u2"),
        ("extra/speaker", (2**34,), "<u2"),
    ],
)
@pytest.mark.parametrize("chunks", [None, (64,)])
def test_data_that_no_file_of_its_size_can_hold_are_refused(tmp_path, name, shape, kind, chunks):
    path = small_file(tmp_path / "a.h5", 4, speakers=np.arange(4))
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, shape, kind, chunks=chunks)
    assert path.stat().st_size < 40_000
    with pytest.raises(EventFormatError, match=r"claims \d+ bytes|lengths differ"):
        ShdFile(path)


def test_names_of_any_length(tmp_path):
    path = small_file(tmp_path / "a.h5", 4)
    with h5py.File(path, "a") as file:
        del file["extra/keys"]
        file["extra/keys"] = ["null", "", "fünf und mehr"]
    assert ShdFile(path).classes == ["null", "", "fünf und mehr"]


@given(st.lists(st.lists(st.tuples(st.floats(0, 999, width=16), st.integers(0, 699)))))
@settings(max_examples=20, deadline=None)
def test_written_clips_come_back(tmp_path_factory, clips):
    path = tmp_path_factory.mktemp("shd") / "a.h5"
    want = []
    for clip in clips:
        t_us = np.array([round(t * 1e6) for t, _ in clip], np.int64)
        want.append(Events(t_us, np.array([x for _, x in clip], np.uint16)))
    labels = [i % 2 for i in range(len(clips))]
    write_shd(path, iter(want), labels, ["a", "ü"], speakers=labels)
    for in_memory_bytes in (IN_MEMORY, CLIP_BY_CLIP):
        file = ShdFile(path, in_memory_bytes=in_memory_bytes)
        assert (file.labels.tolist(), file.speakers.tolist()) == (labels, labels)
        assert file.classes == ["a", "ü"]
        for i, clip in enumerate(want):
            got = file.events(i)
            t_us = np.rint((clip.t_us / 1e6).astype(np.float32).astype(float) * 1e6)
            assert np.array_equal(got.t_us, t_us), f"times of clip {i}"
            assert np.array_equal(got.x, clip.x), f"units of clip {i}"


@pytest.mark.parametrize("length_s", [0.2, 1, 10, 40, 60, 999])
def test_written_times_keep_a_tenth_of_a_millisecond(tmp_path, length_s):
    t_us = np.linspace(0, length_s * 1e6, 501).astype(np.int64)
    write_shd(tmp_path / "a.h5", [Events(t_us, np.zeros(501, np.uint16))], [0], ["a"])
    error = np.abs(ShdFile(tmp_path / "a.h5").events(0).t_us - t_us).max()
    assert error <= 50, f"{error} us of a clip of {length_s} s"


def test_failed_write_leaves_nothing(tmp_path):
    clip = Events(np.array([0]), np.array([700]))
    for events, labels, word in (
        ([clip], [0], "0..699"),
        ([], [0], "0 clips"),
        ([clip.select(np.array([], int))] * 2, [0], "more clips"),
        ([Events(np.array([7 * 10**10]), np.array([1]))], [0], "lasts over 1000 s"),
    ):
        with pytest.raises(DataError, match=word):
            write_shd(tmp_path / "a.h5", events, labels, ["a"])
    with pytest.raises(DataError, match="speakers"):
        write_shd(tmp_path / "a.h5", [], [0], ["a"], speakers=[])
    assert list(tmp_path.iterdir()) == [], "a file of a failed write is left"


REAL = os.environ.get("SNNDELAY_DATA")


@pytest.mark.skipif(not REAL, reason="set SNNDELAY_DATA to a folder with real .h5 files")
def test_real_files_agree_with_h5py():
    paths = sorted(Path(REAL or "").glob("*.h5"))
    assert paths, f"no .h5 file in {REAL}"
    for path in paths:
        file = ShdFile(path)
        with h5py.File(path) as raw:
            for i in range(0, len(file), max(1, len(file) // 50)):
                t_us = np.rint(raw["spikes/times"][i].astype(float) * 1e6)
                assert np.array_equal(file.events(i).t_us, t_us), f"{path} clip {i}"
                assert np.array_equal(file.events(i).x, raw["spikes/units"][i]), f"{path} {i}"
