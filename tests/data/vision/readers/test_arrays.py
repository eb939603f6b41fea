"""NumPy's files: names, orders and dtypes of every kind."""

import io
import zipfile

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.readers.arrays import parse_npy, parse_npz
from snndelay.errors import EventFormatError

from ....helpers_formats import assert_same, random_events

WANT = random_events(50, 0, (128, 128))
COLUMNS = {"t": WANT.t_us, "x": WANT.x, "y": WANT.y, "p": WANT.p}


def saved(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archived(write=np.savez, **arrays) -> bytes:
    file = io.BytesIO()
    write(file, **arrays)
    return file.getvalue()


def structured(names: str, kinds=None) -> np.ndarray:
    kinds = kinds or dict.fromkeys(names, np.int64)
    array = np.empty(len(WANT), [(name, kinds[name]) for name in names])
    for name in names:
        array[name] = COLUMNS[name]
    return array


@pytest.mark.parametrize("order", ["xytp", "txyp", "ptyx"])
def test_fields_in_any_order(order):
    assert_same(parse_npy(saved(structured(order))), WANT)
    assert_same(parse_npz(archived(events=structured(order))), WANT)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_spikingjelly_reads_the_same(write):
    """Its loader takes t, x, y and p from np.load."""
    raw = archived(write, **{name: COLUMNS[name] for name in "pytx"})
    with np.load(io.BytesIO(raw)) as peer:
        want = Events(peer["t"], peer["x"], peer["y"], peer["p"])
    assert_same(parse_npz(raw), want)


@pytest.mark.parametrize(
    ("unit", "scale", "kind"),
    [("us", 1, int), ("ms", 1e3, float), ("s", 1e6, float), ("ns", 1e-3, int), ("ms", 1e3, "f4")],
)
def test_times_in_another_unit(unit, scale, kind):
    t = (WANT.t_us // 1000 * 1000 / scale).astype(kind)
    want = Events(WANT.t_us // 1000 * 1000, WANT.x, WANT.y, WANT.p)
    assert_same(parse_npz(archived(**COLUMNS | {"t": t}), time_unit=unit), want)
    rows = np.stack([want.x, want.y, want.p, t], 1)  # of gestures as tonic cuts them
    assert_same(parse_npy(saved(rows), time_unit=unit), want)


@pytest.mark.parametrize("late", [np.nan, np.inf, 1e300])
def test_times_that_are_none_are_refused_in_any_unit(late):
    t = WANT.t_us / 1e6
    t[7] = late
    with pytest.raises(EventFormatError, match=r"event 7: t is (nan|inf|1e)"):
        parse_npz(archived(**COLUMNS | {"t": t}), time_unit="s")


def test_tonic_reads_the_same():
    from tonic.io import events_struct, make_structured_array

    array = make_structured_array(WANT.x, WANT.y, WANT.t_us, WANT.p, dtype=events_struct)
    assert_same(parse_npy(saved(array)), WANT)


def test_other_names_kinds_and_a_member_more():
    arrays = {"timestamps": WANT.t_us.astype(float), "xs": WANT.x.astype(np.uint8)}
    arrays |= {"YS": WANT.y.astype(">u2"), "polarity": WANT.p.astype(bool), "label": np.array(3)}
    assert_same(parse_npz(archived(**arrays)), WANT)


@pytest.mark.parametrize("order", ["txyp", "xytp", "xypt"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_plain_rows_are_told_apart_by_their_times_and_polarities(order, layout):
    rows = np.stack([COLUMNS[name] for name in order], 1)
    assert_same(parse_npy(saved(np.array(rows, order=layout))), WANT)
    assert_same(parse_npy(saved(rows.T)), WANT)


def test_polarities_of_minus_one():
    assert_same(parse_npz(archived(**COLUMNS | {"p": 2 * WANT.p - 1})), WANT)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"t": WANT.t_us / 1e6}, "t is .*: write whole numbers, times in us"),
        ({"t": np.full(50, np.nan)}, "event 0: t is nan"),
        ({"t": np.full(50, 2**63, np.uint64)}, "comes at 4611686018427387904 us"),
        ({"x": WANT.x[:5]}, r"x is int64 \(5,\), expected numbers like t"),
        ({"x": WANT.x[:, None]}, r"x is int64 \(50, 1\)"),
        ({"p": np.full(50, 3)}, "event 0: the event has polarity 3"),
        ({"p": np.resize([-1, 0], 50)}, "polarity -1"),
        ({"x": np.full(50, 4000)}, "x 4000"),
        ({"t": np.array(["a"] * 50)}, "t is <U1"),
        ({"t": np.array([None] * 50)}, "save numbers"),
        ({"ts": WANT.t_us}, "it holds t, x, y, p, ts, expected t, x, y and p"),
    ],
)
def test_impossible_columns(arrays, words):
    with pytest.raises(EventFormatError, match=words):
        parse_npz(archived(**COLUMNS | arrays), "a.npz")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 3)), r"expected a structured array or \(n, 4\)"),
        (np.zeros((5, 4), int), "could be txyp or xytp or xypt: save a structured array"),
        (np.full((5, 4), 7), "no order of columns fits"),
        (np.zeros(5, [("t", int), ("x", int)]), "its fields are t, x, expected"),
        (np.array([None]), "save numbers"),
    ],
)
def test_impossible_arrays(array, words):
    with pytest.raises(EventFormatError, match=words):
        parse_npy(saved(array), "a.npy")


@pytest.mark.parametrize("shape", ["(9999999999999,)", "(-1,)", "(99999, 99999, 99999, 99999)"])
def test_absurd_sizes_set_nothing_aside(shape):
    head = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + bytes(64)
    with pytest.raises(EventFormatError):
        parse_npy(raw, "a.npy")


def test_an_archive_of_zeros_is_no_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.npy", saved(np.zeros(10_000)))
    raw = bytearray(file.getvalue())
    for at in (raw.rindex(b"PK\x01\x02") + 24,):  # its size, in the directory
        raw[at : at + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(EventFormatError, match="claims 2147483648 bytes"):
        parse_npz(bytes(raw), "a.npz")
