"""Data sets of recordings, written here byte by byte in their layouts."""

import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from snndelay.data.archives import ARCHIVES
from snndelay.data.catalog import DATASETS, open_recordings
from snndelay.data.events import Events
from snndelay.data.vision import sets
from snndelay.data.vision.folder import open_folder
from snndelay.data.vision.sets import RecordingSet
from snndelay.errors import DataError, EventFormatError

from ...helpers_formats import aedat4, lz4

VISION = [name for name, entry in DATASETS.items() if entry.kind == "vision"]
REAL = os.environ.get("SNNDELAY_DATA")


def write_bin(path: Path, size=(34, 34), n=20, seed=0) -> np.ndarray:
    """An ATIS recording of n random events; returns them, (n, 4): x, y, p, t_us. The event in the
    far corner is the first."""
    rng = np.random.default_rng(seed)
    height, width = size
    limits = np.array([width, height, 2, 300_000])
    rows = rng.integers(0, limits, (n, 4))
    rows[:, 3].sort()
    rows[0, :2] = width - 1, height - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, p, t = rows.T
    path.write_bytes(np.stack([x, y, p << 7 | t >> 16, t >> 8, t], 1).astype(np.uint8).tobytes())
    return rows


def write_gesture(path: Path, seed=0, n=20) -> np.ndarray:
    """A gesture as tonic stores it: (n, 4) x, y, p, ms; returns it in us."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, [128, 128, 2, 5000], (n, 4)).astype(np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows)
    return rows * [1, 1, 1, 1000]


def columns(events) -> np.ndarray:
    return np.stack([events.x, events.y, events.p, events.t_us], 1)


def nmnist(root: Path) -> dict[str, np.ndarray]:
    files = ("Train/0/00002.bin", "Train/0/00022.bin", "Train/7/00016.bin", "Test/0/00004.bin")
    return {name: write_bin(root / name, seed=i) for i, name in enumerate(files)}


@pytest.mark.parametrize("folder", ["", "NMNIST", "N-MNIST", "nmnist"])
def test_nmnist(tmp_path, folder):
    rows = nmnist(tmp_path / folder)
    for clutter in ("0/.00003.bin", "0/notes.bin", "0/00005.txt", "x/00006.bin"):
        write_bin(tmp_path / folder / "Train" / clutter)
    data = open_recordings("nmnist", str(tmp_path))
    assert (len(data), data.size, data.name) == (4, (34, 34), "nmnist")
    assert data.classes == [str(k) for k in range(10)]
    assert data.names == [str(Path(folder) / name) for name in rows]
    assert data.labels.tolist() == [0, 0, 7, 0] and data.labels.dtype == np.int64
    assert data.identities == ["mnist:1", "mnist:21", "mnist:15", "mnist:60003"]
    assert data.in_test.tolist() == [False, False, False, True]
    for i, want in enumerate(rows.values()):
        events, label, identity = data[i]
        assert np.array_equal(columns(events), want), f"recording {i}"
        assert (label, identity) == (data.labels[i], data.identities[i])


def test_test_ids_that_go_on_after_the_training_ids(tmp_path):
    for number in ("60001", "70000", "10000"):
        write_bin(tmp_path / "Test" / "3" / f"{number}.bin")
    data = open_recordings("nmnist", str(tmp_path))
    assert data.identities == ["mnist:69999", "mnist:60000", "mnist:69999"]
    assert data.in_test is None, "there is no training part"


def test_a_part_of_nmnist_and_its_folder_by_path(tmp_path):
    write_bin(tmp_path / "Train" / "5" / "00001.bin")
    for data in (open_recordings("nmnist", str(tmp_path)), open_recordings(str(tmp_path))):
        assert (data.identities, data.in_test, data.size) == (["mnist:0"], None, (34, 34))
        assert len(data.classes) == 10


@pytest.mark.parametrize("folder", ["Caltech101", "NCALTECH101/Caltech101", "N-Caltech101", ""])
def test_ncaltech101(tmp_path, folder):
    names = ("BACKGROUND_Google/image_0001.bin", "ant/image_0002.bin", "ant/image_0010.bin")
    for i, name in enumerate(reversed(names)):
        write_bin(tmp_path / folder / name, (180, 240), seed=i)
    place = tmp_path / folder
    write_bin(place / "Caltech101_annotations" / "ant" / "annotation_0001.bin")
    write_bin(place / "Caltech101_annotations" / "annotation_0001.bin")
    write_bin(place / "ant" / "annotation_0002.bin")
    data = open_recordings("ncaltech101", str(tmp_path))
    assert data.classes == ["BACKGROUND_Google", "ant"], "sorted, without the annotations"
    assert data.labels.tolist() == [0, 1, 1]
    assert data.identities == ["BACKGROUND_Google/image_0001", "ant/image_0002", "ant/image_0010"]
    assert (data.size, data.in_test) == ((180, 240), None)
    assert len(data[2][0]) == 20


def test_tree_takes_its_size_from_all_events_or_from_the_caller(tmp_path):
    write_bin(tmp_path / "cat" / "a.bin", (30, 50))
    write_bin(tmp_path / "ant" / "b.bin", (40, 20))
    (tmp_path / "ant" / "empty.bin").touch()
    data = open_recordings(str(tmp_path))
    assert (data.size, data.classes) == ((40, 50), ["ant", "cat"])
    assert data.identities == ["ant/b", "ant/empty", "cat/a"]
    assert [len(data[i][0]) for i in range(3)] == [20, 0, 20]
    assert open_folder(tmp_path).fingerprint() == data.fingerprint()
    small = open_recordings(str(tmp_path), size=(40, 40))
    assert len(small[0][0]) == 20
    with pytest.raises(DataError, match=r"a\.bin.* up to x 49, y 29, off the sensor of 40 x 40"):
        small[2]
    said = open_recordings(str(tmp_path), size=(40, 50))  # so that headers have a say
    assert said.fingerprint() != data.fingerprint(), "frames that were kept would pass them over"


def test_tree_of_empty_recordings_needs_a_size(tmp_path):
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "a.bin").touch()
    with pytest.raises(DataError, match="are empty: give --sensor"):
        open_recordings(str(tmp_path))
    assert len(open_recordings(str(tmp_path), size=(4, 4))) == 1


def test_index_pickle_and_reading_when_asked(tmp_path):
    nmnist(tmp_path)
    data = open_recordings("nmnist", str(tmp_path))
    (tmp_path / data.names[1]).write_bytes(b"1234")
    assert data[-1][2] == "mnist:60003"
    with pytest.raises(IndexError):
        data[4]
    with pytest.raises(EventFormatError, match=r"00022\.bin"):
        data[1]
    copy = pickle.loads(pickle.dumps(data))  # travels to worker processes
    assert np.array_equal(columns(copy[2][0]), columns(data[2][0]))


def test_negative_index_reaches_the_reader_as_a_position():
    data = RecordingSet("made", np.zeros(3, int), ["a"], ["x", "y", "z"], (2, 2), ["", "", ""], str)
    assert data[-1] == ("2", 0, "z")


def test_fingerprint_follows_the_files(tmp_path):
    nmnist(tmp_path)
    first = open_recordings("nmnist", str(tmp_path)).fingerprint()
    assert open_recordings("nmnist", str(tmp_path)).fingerprint() == first
    changed = tmp_path / "Train" / "0" / "00002.bin"
    os.utime(changed, ns=(0, 0))
    second = open_recordings("nmnist", str(tmp_path)).fingerprint()
    write_bin(tmp_path / "Train" / "9" / "00100.bin")
    third = open_recordings("nmnist", str(tmp_path)).fingerprint()
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("name", [name for name in VISION if name not in ("dvs", "drift")])
def test_missing_set_says_where_it_looked_and_how_to_get_it(tmp_path, name):
    with pytest.raises(DataError) as error:
        open_recordings(name, str(tmp_path / "none"))
    text = str(error.value)
    for word in ("is missing", str(tmp_path / "none"), "fetch it from http", "--download"):
        assert word in text, f"{word!r} is not in: {text}"


def test_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(DataError, match="did you mean nmnist"):
        open_recordings("nnist")
    with pytest.raises(DataError, match="one of dvs, nmnist"):
        open_recordings(str(tmp_path / "none"))
    with pytest.raises(DataError, match="holds no recordings in class folders"):
        open_recordings(str(tmp_path))


def test_download_goes_part_by_part(tmp_path, monkeypatch):
    fetched = []

    def fake(folder, tonic_class, options, url):
        fetched.append(options["train"])
        if not options["train"]:
            raise DataError(f"no route to host: fetch it by hand from {url}")
        write_bin(folder / tonic_class / "Train" / "1" / "00004.bin")

    monkeypatch.setattr(sets, "fetch", fake)
    with pytest.raises(DataError, match=r"no route to host.*fetch it by hand from http"):
        open_recordings("nmnist", str(tmp_path), download=True)
    assert fetched == [True, False]
    write_bin(tmp_path / "NMNIST" / "Test" / "1" / "00003.bin")
    assert len(open_recordings("nmnist", str(tmp_path), download=True)) == 2
    assert fetched == [True, False], "fetched what was there"


def test_every_part_of_a_named_set_has_an_archive():
    for source in (sets.NMNIST, sets.NCALTECH101, sets.CIFAR10DVS, sets.GESTURE):
        for options in source.parts.values():
            assert (source.tonic_class, next(iter(options.values()), None)) in ARCHIVES


def test_a_root_may_hold_what_is_no_data_set(tmp_path):
    """Named sets are looked for beside other things, such as a link to nowhere."""
    (tmp_path / "photos").mkdir()
    for place in ("old", "photos/gone.bin"):
        (tmp_path / place).symlink_to(tmp_path / "nowhere")
    write_bin(tmp_path / "N-Caltech101" / "Caltech101" / "ant" / "image_0001.bin", (180, 240))
    data = open_recordings("ncaltech101", str(tmp_path))
    assert data.identities == ["ant/image_0001"]


def test_download_that_brings_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "fetch", lambda *_: None)
    with pytest.raises(DataError, match="still missing after the download"):
        open_recordings("ncaltech101", str(tmp_path), download=True)


def test_gesture(tmp_path):
    folder = tmp_path / "DVSGesture"
    want = [
        write_gesture(folder / "ibmGestureTrain" / "user02_lab" / "10.npy", 1),
        write_gesture(folder / "ibmGestureTrain" / "user02_lab" / "3.npy", 2),
        write_gesture(folder / "ibmGestureTest" / "user24_led" / "0.npy", 3),
    ]
    write_gesture(folder / "ibmGestureTrain" / "user02_lab" / "11.npy")
    data = open_recordings("dvsgesture", str(tmp_path))
    assert data.labels.tolist() == [10, 3, 0]
    assert data.identities == ["user02_lab/10", "user02_lab/3", "user24_led/0"]
    assert data.in_test.tolist() == [False, False, True]
    assert (len(data.classes), data.size) == (11, (128, 128))
    for i, rows in enumerate(want):
        assert np.array_equal(columns(data[i][0]), rows), f"recording {i}: ms -> us"
        assert data[i][0].t_us.dtype == np.int64


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.array([[1.0, 2, 0, 0.29], [128, 2, 0, 1]]), "event 1 has x 128"),
        (np.array([[1, 2, 2, 5]]), "p 2"),
        (np.array([[1, -2, 1, 5]]), "y -2"),
        (np.array([[1, 2, 1, np.nan]]), "at nan us"),
        (np.array([[1, 2, 1, np.inf]]), "at inf us"),
        (np.array([[1, 2, 1]]), r"\(1, 3\)"),
        (np.array(["a"]), "expected numbers"),
        (np.array([None]), "no array of numbers"),
    ],
)
def test_impossible_gesture(tmp_path, rows, reason):
    path = tmp_path / "ibmGestureTest" / "user24_led" / "0.npy"
    path.parent.mkdir(parents=True)
    np.save(path, rows)
    data = open_recordings("dvsgesture", str(tmp_path))
    with pytest.raises(EventFormatError, match=reason) as error:
        data[0]
    assert error.value.path == str(path)


def test_half_milliseconds_are_rounded_not_cut(tmp_path):
    path = tmp_path / "ibmGestureTest" / "user24_led" / "0.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.array([[1, 2, 1, 0.58], [1, 2, 1, 1.001]]))  # 0.58 * 1000 is 579.99...
    assert open_recordings("dvsgesture", str(tmp_path))[0][0].t_us.tolist() == [580, 1001]


@pytest.mark.parametrize(("scale", "unit"), [(1000, "us"), (1, None), (0.001, "s")])
@pytest.mark.parametrize("start_ms", [0, 5000, 1_600_000_000_000])
def test_gestures_in_another_unit_are_refused_and_any_clock_is_read(
    tmp_path, scale, unit, start_ms
):
    path = tmp_path / "ibmGestureTest" / "user24_led" / "0.npy"
    path.parent.mkdir(parents=True)
    t_ms = np.linspace(0, 6000, 2001)
    x, y, p = t_ms // 50, t_ms // 99, t_ms % 2 > 0
    np.save(path, np.stack([x, y, p, (t_ms + start_ms) * scale], 1))
    data = open_recordings("dvsgesture", str(tmp_path))
    if unit is None:
        t_us = data[0][0].t_us
        assert np.array_equal(t_us, np.rint((t_ms + start_ms) * 1000).astype(np.int64))
        return
    with pytest.raises(EventFormatError, match=f"its times must be {unit}: write them in ms"):
        data[0]


def test_damaged_gestures_give_events_or_a_format_error(tmp_path):
    path = tmp_path / "ibmGestureTest" / "user24_led" / "0.npy"
    write_gesture(path)
    good = path.read_bytes()
    data = open_recordings("dvsgesture", str(tmp_path))
    rng, refused = np.random.default_rng(0), 0
    for k in range(1000):
        raw = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            raw[rng.integers(0, 200 if k % 2 else len(raw))] = rng.integers(0, 256)
        path.write_bytes(raw[: rng.integers(0, len(raw) + 1)] if k % 5 == 0 else raw)
        try:
            data[0][0].validate(128)
        except EventFormatError:
            refused += 1
    assert 0 < refused < 1000, "every mutant was refused, or none"


class Decoder:
    """Stands in for the package aedat, by which tonic reads: the events that `cifar` wrote."""

    packets = ()

    def __init__(self, path):
        pass

    def id_to_stream(self):
        return {0: {"type": "events"}}

    def __iter__(self):
        return ({"stream_id": 0, "events": part} for part in self.packets)


def cifar(root: Path) -> np.ndarray:
    """Two .aedat4 recordings of the same events, (n, 4) x, y, p, t."""
    rows = np.random.default_rng(0).integers(0, [128, 128, 2, 10**6], (30, 4))
    fields = [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("on", bool)]
    made = np.empty(30, fields)
    for name, column in zip(("x", "y", "on"), rows.T, strict=False):
        made[name] = column
    start_us = 1_600_000_000_000_000  # microseconds since 1970
    made["t"] = rows[:, 3] + start_us
    Decoder.packets = [made[:11], made[11:]]
    x, y, p, t_us = rows.T
    raw = aedat4(Events(t_us, x, y, p), (128, 128), pack=lz4, start=start_us, compression=1)
    for name in ("cat/cifar10_cat_0.aedat4", "airplane/cifar10_airplane_7.aedat4"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(raw)
    return rows


def test_cifar10dvs(tmp_path):
    rows = cifar(tmp_path / "CIFAR10DVS")
    data = open_recordings("cifar10dvs", str(tmp_path))
    assert data.classes == ["airplane", "cat"] and data.size == (128, 128)
    assert data.identities == ["airplane/cifar10_airplane_7", "cat/cifar10_cat_0"]
    want = rows - [0, 0, 0, rows[:, 3].min()]
    assert np.array_equal(columns(data[0][0]), want), "times count from the first event"
    (tmp_path / data.names[1]).write_bytes(b"")
    with pytest.raises(EventFormatError, match="the file is empty"):
        data[1]


def caltech(root: Path) -> None:
    for i in range(8):
        write_bin(root / "Caltech101" / "ab"[i % 2] / f"image_{i:04}.bin", (180, 240), 50, i)


def gestures(root: Path) -> None:
    for i in range(8):
        write_gesture(root / "ibmGestureTrain" / f"user0{1 + i % 3}_lab" / f"{i}.npy", i)
    write_gesture(root / "ibmGestureTest" / "user24_lab" / "4.npy", 9)


HALVES = ({"train": True}, {"train": False})
TONIC = {  # name -> (class in tonic, what writes recordings, the options of its parts)
    "nmnist": ("NMNIST", nmnist, HALVES),
    "ncaltech101": ("NCALTECH101", caltech, ({},)),
    "dvsgesture": ("DVSGesture", gestures, HALVES),
    "cifar10dvs": ("CIFAR10DVS", cifar, ({},)),
}


@pytest.mark.parametrize("name", TONIC)
def test_agreement_with_tonic(tmp_path, monkeypatch, name):
    """The same recordings, labels and events, in whatever order tonic lists them."""
    kind_name, write, parts = TONIC[name]
    kind = getattr(pytest.importorskip("tonic.datasets"), kind_name)
    monkeypatch.setattr(kind, "_check_exists", lambda self: True)  # it counts files of whole sets
    monkeypatch.setitem(sys.modules, "aedat", SimpleNamespace(Decoder=Decoder))
    write(tmp_path / kind_name)
    theirs = {}
    for options in parts:
        peer = kind(save_to=str(tmp_path), **options)
        for i, path in enumerate(peer.data):
            theirs[Path(path).relative_to(tmp_path).as_posix()] = peer[i]
    data = open_recordings(name, str(tmp_path))
    assert sorted(data.names) == sorted(theirs), "other recordings than tonic's"
    numbers = getattr(kind, "classes", None)  # some give labels as names, some name -> label
    for i, path in enumerate(data.names):
        raw, target = theirs[path]
        label = data.labels[i] if isinstance(numbers, list) else data.classes[data.labels[i]]
        label = numbers[label] if isinstance(numbers, dict) else label
        assert label == target, f"{path}: label {label} instead of {target}"
        got = columns(data[i][0])
        want = np.stack([raw[field].astype(np.int64) for field in "xypt"], 1)
        if name == "ncaltech101":  # tonic moves the smallest x and y to 0
            got[:, :2] -= got[:, :2].min(0)
        if name == "cifar10dvs":  # the reader moves the first time to 0
            want[:, 3] -= want[:, 3].min()
        assert np.array_equal(got, want), f"{path}: {got[:3]} instead of {want[:3]}"


def test_dvs_needs_no_files(tmp_path):
    data = open_recordings("dvs", str(tmp_path / "none"))
    events, label, identity = data[3]
    assert len(events) > 100 and label == data.labels[3] and identity == data.identities[3]
    assert open_recordings("dvs").fingerprint() == data.fingerprint()


@pytest.mark.skipif(not REAL, reason="set SNNDELAY_DATA to a folder with nmnist and caltech10")
def test_real_recordings():
    root = Path(REAL or "")
    digits = open_recordings("nmnist", str(root))
    assert digits.size == (34, 34) and len(digits) > 0
    caltech = open_recordings(str(root / "caltech10" / "events"))
    assert len(caltech.classes) == 10
    for data in (digits, caltech):
        assert len(set(data.identities)) == len(data)
        for i in range(0, len(data), 40):
            events, label, identity = data[i]
            assert len(events.validate(data.size[1])) > 500, f"{data.names[i]} is nearly empty"
            assert events.y.max() < data.size[0] and set(np.unique(events.p)) == {0, 1}
            assert data.classes[label] == Path(data.names[i]).parent.name, identity
