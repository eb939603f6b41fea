"""Sequences of any length in an HDF5 file, read without libhdf5, which in some damaged files loops
for ever or crashes.

    where = references(file["spikes/times"])         # one of each sequence
    flat = sequences("a.h5", where, np.dtype("<f2"))  # all of them, one after the other

A dataset of sequences holds a reference for each of them; its elements lie in a heap.
Source: HDF5 File Format Specification 3.0, III.E (global heaps), IV.A.2.m (attributes), VIII.B
(references); the filters,
HDF5 User's Guide, and LZF: http://oldhome.schmorp.de/marc/liblzf.html.

Legend: n sequences.
"""

import mmap
import os
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
NAMES, NO_MORE = b"HEAP\0\0\0\0", 1  # begins the names of a group; ends a list of what is free
LOOKED_AT, PIECE = 1 << 22, 1 << 20  # bytes: in which they are looked for, and at once
GZIP, SHUFFLE, LZF = 1, 2, 32000  # filters by their numbers


def open_file(path: str | Path) -> h5py.File:
    """An HDF5 file, to be read. OSError if it is none, ValueError if the names of a group are
    damaged: libhdf5 2.0 would follow a list of what is free among them until all memory is taken.
    Of a file of more than LOOKED_AT only the beginning and the end are looked at, where they are.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        ends = len(raw) > 2 * LOOKED_AT
        spans = [(0, LOOKED_AT), (len(raw) - LOOKED_AT, len(raw))] if ends else [(0, len(raw))]
        base = max(0, raw[:PIECE].find(b"\x89HDF\r\n\x1a\n"))
        for start, end in spans:
            for at in range(start, end, PIECE):
                part = raw[at : at + PIECE + len(NAMES) - 1]
                place = part.find(NAMES)
                while place >= 0:
                    _check_names(raw, at + place, base)
                    place = part.find(NAMES, place + 1)
    return h5py.File(path, "r")


def _check_names(raw: mmap.mmap, at: int, base: int) -> None:
    """ValueError if what is free among the names of a group, of which byte `at` tells, is no list
    that ends. `base`: the byte from which addresses count."""
    n_bytes, free, first = struct.unpack("<QQQ", raw[at + 8 : at + 32].ljust(24, b"\0"))
    if base + first + n_bytes > len(raw):  # which libhdf5 refuses
        return
    for _ in range(n_bytes // 16 + 1):
        if free == NO_MORE:
            return
        if free > n_bytes - 16:
            break
        (free,) = struct.unpack_from("<Q", raw, base + first + free)
    raise ValueError(f"damaged names of a group at byte {at}")


def references(data: h5py.Dataset) -> np.ndarray:
    """Where the n sequences lie: `length`, `address` of the heap, `index` in it; length 0 for one
    that was never written. ValueError if the file is damaged, or stores them as cannot be read."""
    made, n = data.id.get_create_plist(), len(data)
    path = data.file.filename
    found = np.zeros(n, REFERENCE)
    with open(path, "rb") as file:
        file_size = os.fstat(file.fileno()).st_size

        def read(at: int, size: int) -> bytes:
            file.seek(min(at, file_size))
            return file.read(min(size, file_size))

        if made.get_layout() == h5py.h5d.CONTIGUOUS and not made.get_external_count():
            if (at := data.id.get_offset()) is not None:
                raw = decoded(read(at, data.id.get_storage_size()), [], 0, n * REFERENCE.itemsize)
                found = np.frombuffer(raw, REFERENCE)
        elif made.get_layout() == h5py.h5d.CHUNKED:
            filters, (per_chunk,) = filters_of(data), data.chunks or (0,)
            for k in range(data.id.get_num_chunks()):
                chunk = data.id.get_chunk_info(k)
                raw = read(chunk.byte_offset, chunk.size)
                raw = decoded(raw, filters, chunk.filter_mask, per_chunk * REFERENCE.itemsize)
                room = found[chunk.chunk_offset[0] :]
                room[:per_chunk] = np.frombuffer(raw, REFERENCE)[: len(room)]
        else:
            raise ValueError(f"{data.name} lies in no chunks of the file: write it anew with h5py")
    return found


def sequences(path: str | Path, where: np.ndarray, dtype: np.dtype, base: int = 0) -> np.ndarray:
    """The elements of all sequences that `where` refers to, joined, of `dtype`. `base`: bytes
    before the HDF5 file in its file. ValueError if a heap is damaged."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        addresses = np.unique(where["address"][where["length"] > 0]).tolist()
        heaps = {address: objects(raw, base + address) for address in addresses}
        pieces = []
        for length, address, index in where.tolist():
            at, size = heaps.get(address, {}).get(index, (0, 0))
            if length * dtype.itemsize > size:
                raise ValueError(f"heap at byte {address} lacks object {index} of that size")
            pieces.append(raw[at : at + length * dtype.itemsize])
    return np.frombuffer(b"".join(pieces), dtype)


def objects(raw: bytes | mmap.mmap, heap: int) -> dict[int, tuple[int, int]]:
    """Index of every object of the heap at byte `heap` -> (byte, size). ValueError if it is
    damaged."""
    if raw[heap : heap + 4] != b"GCOL":
        raise ValueError(f"no heap at byte {heap}")
    at, found = heap + 16, {}
    end = min(heap + struct.unpack_from("<Q", raw, heap + 8)[0], len(raw))
    while at + 16 <= end:
        index, size = struct.unpack_from("<H6xQ", raw, at)
        step = 16 + (size + 7) // 8 * 8 if index else size  # index 0: the free rest
        if not 16 <= step <= end - at:
            raise ValueError(f"damaged heap at byte {at}")
        found[index] = at + 16, size
        at += step
    return found


def text_of_attribute(path: str | Path, name: str, base: int = 0) -> bytes:
    """The text of any length that the first attribute called `name` holds, b"" if it cannot be
    read. `base`: as in `sequences`."""
    key = name.encode() + b"\0"
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        at = raw.find(key)
        while at >= 0:
            for version, before, align in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
                try:  # a message of an attribute: its sizes, its name, type, space and value
                    said, _, *sizes = struct.unpack_from("<BBHHH", raw, at - before)
                    if said == version and sizes[0] == len(key):
                        value = at + sum(-(-size // align) * align for size in sizes)
                        length, address, index = struct.unpack_from("<IQI", raw, value)
                        place, size = objects(raw, base + address).get(index, (0, 0))
                        return raw[place : place + min(length, size)]
                except (ValueError, struct.error):
                    continue
            at = raw.find(key, at + 1)
    return b""


def filters_of(data: h5py.Dataset) -> list[int]:
    """Numbers of the filters that its chunks went through, in that order. ValueError for one that
    cannot be read."""
    made = data.id.get_create_plist()
    filters = [made.get_filter(k)[0] for k in range(made.get_nfilters())]
    if unknown := {*filters} - {GZIP, SHUFFLE, LZF}:
        raise ValueError(f"{data.name} is compressed by filter {min(unknown)}: write it with gzip")
    return filters


def decoded(raw: bytes, filters: list[int], mask: int, size: int) -> bytes:
    """The `size` bytes of a chunk as they were before its filters; those in `mask` were passed
    over. ValueError if it is damaged."""
    for k, number in reversed([*enumerate(filters)]):
        if mask >> k & 1:
            continue
        if number == GZIP:
            try:
                raw = zlib.decompressobj().decompress(raw, size)
            except zlib.error as error:
                raise ValueError(f"a damaged chunk ({error})") from error
        elif number == LZF:
            raw = lzf(raw, size)
        else:  # bytes of all elements, the first of each, then the second
            byte_n = np.frombuffer(raw, np.uint8)
            whole = len(raw) // REFERENCE.itemsize * REFERENCE.itemsize
            turned = byte_n[:whole].reshape(REFERENCE.itemsize, -1).T
            raw = turned.tobytes() + raw[whole:]
    if len(raw) != size:
        raise ValueError(f"a chunk of {len(raw)} bytes instead of {size}")
    return raw


def lzf(raw: bytes, most: int) -> bytes:
    """At most `most` bytes out of a block of LZF: a byte below 32 is the number of bytes that
    follow, less one; others say how far back and how long what comes next stood before."""
    out, at = bytearray(), 0
    try:
        while at < len(raw) and len(out) < most:
            first, at = raw[at], at + 1
            if first < 32:
                out += raw[at : at + first + 1]
                at += first + 1
                continue
            length = first >> 5
            if length == 7:
                length, at = length + raw[at], at + 1
            start = len(out) - ((first & 31) << 8 | raw[at]) - 1
            at += 1
            if start < 0:
                raise ValueError("a damaged chunk")
            for k in range(length + 2):  # which may run into what it writes
                out.append(out[start + k])
    except IndexError:
        raise ValueError("a chunk that was cut") from None
    return bytes(out[:most])
