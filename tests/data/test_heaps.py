"""Sequences of HDF5 files as h5py reads them, whatever the layout; and damage."""

import struct

import h5py
import numpy as np
import pytest

from snndelay.data.heaps import (
    decoded,
    lzf,
    open_file,
    references,
    sequences,
    text_of_attribute,
)

LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (4,)},
    "one large chunk": {"chunks": (64,), "maxshape": (None,)},
    "gzip": {"chunks": (4,), "compression": "gzip"},
    "gzip shuffled": {"chunks": (4,), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (16,), "compression": "lzf"},
    "lzf shuffled": {"chunks": (16,), "compression": "lzf", "shuffle": True},
}


def write(path, rows, userblock=0, **layout):
    with h5py.File(path, "w", userblock_size=userblock) as file:
        data = file.create_dataset("a/x", (len(rows),), h5py.vlen_dtype(np.uint16), **layout)
        for i, row in enumerate(rows):
            if row is not None:
                data[i] = row
    return path


def read(path) -> list[list[int]]:
    """All sequences, by references and heaps."""
    with h5py.File(path) as file:
        where, base = references(file["a/x"]), file.userblock_size
    flat = sequences(str(path), where, np.dtype(np.uint16), base)
    return [part.tolist() for part in np.split(flat, np.cumsum(where["length"])[:-1])]


def some(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 700, rng.integers(0, 300)) for _ in range(n)]


@pytest.mark.parametrize("userblock", [0, 1024])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("n", [1, 37])
def test_every_layout_is_read_as_h5py_does(tmp_path, n, layout, userblock):
    if n == 1 and "chunks" in layout and "maxshape" not in layout:
        layout = layout | {"chunks": (1,)}
    rows = some(n)
    path = write(tmp_path / "a.h5", rows, userblock, **layout)
    with h5py.File(path) as file:
        want = [row.tolist() for row in file["a/x"][:]]
    assert read(path) == want == [row.tolist() for row in rows]


@pytest.mark.parametrize("layout", [LAYOUTS["contiguous"], LAYOUTS["gzip"]])
def test_what_was_never_written_is_empty(tmp_path, layout):
    rows = [None] * 30
    assert read(write(tmp_path / "a.h5", rows, **layout)) == [[]] * 30
    rows[9] = np.arange(5)
    assert read(write(tmp_path / "b.h5", rows, **layout))[9] == [0, 1, 2, 3, 4]


def test_other_ways_to_store_them_are_said(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.vlen_create(h5py.h5t.NATIVE_UINT16)
        h5py.h5d.create(file.id, b"x", kind, space, made)
    with h5py.File(tmp_path / "a.h5") as file, pytest.raises(ValueError, match="in no chunks"):
        references(file["x"])
    path = write(tmp_path / "b.h5", some(9), chunks=(4,), compression="szip")
    with h5py.File(path) as file, pytest.raises(ValueError, match="by filter 4"):
        references(file["a/x"])


def test_lzf_repeats_what_stood_before():
    literal = b"\x02abc"
    assert lzf(literal + bytes([2 << 5, 2]), 100) == b"abcabca"
    assert lzf(b"\x00z" + bytes([7 << 5, 20, 0]), 100) == b"z" * 30, "it runs into what it writes"
    assert lzf(literal * 3, 5) == b"abcab"
    with pytest.raises(ValueError, match="damaged chunk"):
        lzf(literal + bytes([2 << 5, 3]), 100)
    with pytest.raises(ValueError, match="cut"):
        lzf(literal + bytes([2 << 5]), 100)


def test_chunks_of_another_length_are_refused():
    assert decoded(b"1234", [1], 1, 4) == b"1234", "a filter that was passed over"
    with pytest.raises(ValueError, match="of 5 bytes instead of 4"):
        decoded(b"12345", [], 0, 4)
    with pytest.raises(ValueError, match="a damaged chunk"):
        decoded(b"12345", [1], 0, 4)


@pytest.mark.parametrize(("at", "value"), [(0, b"X"), (24, struct.pack("<Q", 2**40))])
def test_a_damaged_heap_is_refused(tmp_path, at, value):
    path = write(tmp_path / "a.h5", some(9))
    raw = bytearray(path.read_bytes())
    place = raw.index(b"GCOL") + at
    raw[place : place + len(value)] = value
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="heap"):
        read(path)


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("newest", [False, True])
def test_text_of_attributes(tmp_path, newest, userblock):
    """Of the messages of HDF5 before 1.8 and after."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest" if newest else None, userblock_size=userblock) as f:
        f.attrs["other"] = "geometry"
        f.create_group("CD").attrs["geometry"] = "1280x720"
    assert text_of_attribute(path, "geometry", userblock) == b"1280x720"
    assert text_of_attribute(path, "none") == b""
    raw = bytearray(path.read_bytes())
    for place in [k for k in range(len(raw)) if raw.startswith(b"GCOL", k)]:
        raw[place] = 0
    path.write_bytes(raw)
    assert text_of_attribute(path, "geometry", userblock) == b""


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("free", [2**60, 88, 16])
def test_a_damaged_list_of_free_names_is_refused(tmp_path, free, userblock):
    """libhdf5 2.0 takes all memory there is."""
    path = write(tmp_path / "a.h5", some(3), userblock)
    with open_file(path) as file:
        assert len(file["a/x"]) == 3
    raw = bytearray(path.read_bytes())
    at = raw.index(b"HEAP\0\0\0\0")
    _, first, address = struct.unpack_from("<QQQ", raw, at + 8)
    if free == 16:  # a loop
        struct.pack_into("<Q", raw, userblock + address + first, first)
    else:
        struct.pack_into("<Q", raw, at + 16, free)
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=f"damaged names of a group at byte {at}"):
        open_file(path)
