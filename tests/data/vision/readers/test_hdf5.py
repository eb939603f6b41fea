"""HDF5 of DSEC and Metavision: places, attributes, compression, damage."""

import sys

import h5py
import numpy as np
import pytest

from snndelay.data.vision.readers.hdf5 import read_hdf5, sensor
from snndelay.errors import DataError, EventFormatError

from ....helpers_formats import PARTS, assert_same, random_events

WANT = random_events(50, 0)


def write(path, group="events", names="txyp", **options):
    with h5py.File(path, "w") as file:
        for name, part in zip(names, PARTS, strict=True):
            file.create_dataset(f"{group}/{name}", data=getattr(WANT, part), **options)


@pytest.mark.parametrize("group", ["events", "CD", ""])
def test_places(tmp_path, group):
    write(tmp_path / "a.h5", group)
    assert_same(read_hdf5(tmp_path / "a.h5"), WANT)
    assert sensor(tmp_path / "a.h5") is None


def test_longer_names_and_attributes(tmp_path):
    path = tmp_path / "a.h5"
    write(path, names=("timestamps", "xs", "ys", "polarities"))
    with h5py.File(path, "a") as file:
        file["events"].attrs.update(width=np.int64(1280), height=720)
    assert_same(read_hdf5(path), WANT)
    assert sensor(path) == (720, 1280)
    with pytest.raises(EventFormatError, match="off the sensor of 100 x 100"):
        read_hdf5(path, (100, 100))


def test_the_offset_of_dsec_moves_nothing(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["t_offset"] = 10**12
    assert_same(read_hdf5(tmp_path / "a.h5"), WANT)


def write_filtered(path, number):
    """A dataset whose chunks say that they went through a filter of this number."""
    write(path)
    with h5py.File(path, "a") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((50,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (2, 2, 8, 400))
        del file["events/t"]
        space, kind = h5py.h5s.create_simple((50,)), h5py.h5t.NATIVE_INT64
        data = h5py.h5d.create(file["events"].id, b"t", kind, space, plist)
        data.write_direct_chunk((0,), WANT.t_us.astype(np.int64).tobytes(), filter_mask=0)


def test_a_filter_that_is_missing_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write_filtered(path, 32001)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    with pytest.raises(DataError, match="a package for blosc: pip install hdf5plugin"):
        read_hdf5(path)
    write_filtered(path, 0x8ECF)
    with pytest.raises(DataError, match="needs Metavision's ECF codec: set HDF5_PLUGIN_PATH"):
        read_hdf5(path)


def test_blosc(tmp_path):
    plugin = pytest.importorskip("hdf5plugin")
    write(tmp_path / "a.h5", **plugin.Blosc())
    assert_same(read_hdf5(tmp_path / "a.h5"), WANT)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: None, "neither events/t, x, y and p nor CD/events"),
        (lambda file: file.create_dataset("events", data=[1, 2]), "fields without names"),
        (lambda file: file.create_dataset("CD/events", data=["a"]), "fields without names"),
        (
            lambda file: [file.create_dataset(f"events/{k}", data=[0.5]) for k in "txyp"],
            "t holds float64, expected integers",
        ),
        (
            lambda file: [file.create_dataset(f"events/{k}", data=[[1]]) for k in "txyp"],
            "events/t is no row of numbers",
        ),
        (
            lambda file: [
                file.create_dataset(f"events/{k}", shape=(10**12,), dtype="i8", chunks=(9,))
                for k in "txyp"
            ],
            "events/t claims 1000000000000 values in 0 bytes",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, make, words):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    with pytest.raises(EventFormatError, match=words):
        read_hdf5(tmp_path / "a.h5")


def test_columns_of_other_lengths(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["events/x"]
        file["events/x"] = [1, 2, 3]
    with pytest.raises(EventFormatError, match="x has 3 values and t 50"):
        read_hdf5(tmp_path / "a.h5")


def test_no_hdf5(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"hello")
    with pytest.raises(EventFormatError, match="it is no HDF5 file"):
        read_hdf5(tmp_path / "a.h5")
