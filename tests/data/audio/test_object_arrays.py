"""Object arrays: those of numpy come back, and no other program runs."""

import io
import pickle
import pickletools
import struct

import numpy as np
import pytest

from snndelay.data.audio.object_arrays import load


def pickled(array, protocol: int = 4) -> bytes:
    return pickle.dumps(array, protocol)


def objects(*parts) -> np.ndarray:
    made = np.empty(len(parts), object)
    for i, part in enumerate(parts):
        made[i] = part
    return made


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(
    "parts",
    [
        (),
        (np.arange(3.0), np.arange(3) * 2.0),
        (np.arange(5, dtype=np.uint16), np.zeros(0, np.uint16), np.arange(2, dtype=">i4")),
        (np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(["a", "bc"])),
        ([1, 2.5], [], np.array([True])),
    ],
)
def test_arrays_come_back(parts, protocol):
    found = load(io.BytesIO(pickled(objects(*parts), protocol)))
    assert found.dtype == object and found.shape == (len(parts),)
    for one, want in zip(found, parts, strict=True):
        assert np.array_equal(one, want) and np.asarray(one).dtype == np.asarray(want).dtype


def test_object_arrays_of_two_dimensions():
    table = np.array([[1, "a"], [2, "b"]], object)
    assert load(io.BytesIO(pickled(table))).tolist() == table.tolist()


class Evil:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (pickled(objects(Evil())), r"holds builtins\.print, no numbers"),
        (pickled(np.float64(1)), r"holds numpy\._core\.multiarray\.scalar|scalar"),
        (pickled([1, 2]), "an object array is none"),
        (pickled(np.zeros(2, "M8[s]")), "bytes of an array datetime64|no numbers"),
        (pickle.PROTO + b"\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 2**40), "claims|expected"),
        (b"N" + pickle.LONG_BINPUT + struct.pack("<I", 2**31 - 1) + b".", "more than there is"),
    ],
)
def test_others_are_refused_in_little_memory(raw, words, capsys):
    with pytest.raises((pickle.UnpicklingError, ValueError), match=words):
        load(io.BytesIO(raw))
    assert capsys.readouterr().out == ""


def test_a_pickle_cannot_say_where_its_objects_lie():
    """numpy would take bytes for addresses if a type said that they are objects."""
    raw = pickled(np.arange(4, dtype=np.int64))
    assert raw.count(b"i8") == 1
    with pytest.raises(pickle.UnpicklingError, match="32 bytes of an array object"):
        load(io.BytesIO(raw.replace(b"i8", b"O8")))


def test_a_pickle_cannot_ask_for_a_large_array():
    """numpy would set it aside, and counting its labels would not end."""
    raw = pickled(np.arange(4, dtype=np.int64))
    place = raw.index(b"K\x00\x85")  # the shape (0,) of the array before its state
    assert [op.name for op, *_ in pickletools.genops(raw)].count("TUPLE1") == 2
    large = raw[:place] + b"\x8a\x05" + (2**33).to_bytes(5, "little") + raw[place + 2 :]
    large = large.replace(large[2:11], b"\x95" + struct.pack("<Q", len(large) - 11), 1)
    assert load(io.BytesIO(large)).tolist() == [0, 1, 2, 3]
