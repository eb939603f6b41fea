"""Frames made of 5-byte records in one pass are those of their events, in every case."""

import numpy as np
import pytest

from snndelay.data.events import Events
from snndelay.data.vision.atis import Packed, atis_bytes
from snndelay.data.vision.filters import Filters
from snndelay.data.vision.framing import Framing, framed, resize_lines, resized
from snndelay.errors import DataError, EventFormatError

SIZE = (34, 30)
FRAMINGS = {
    "bins": Framing(n_steps=7),
    "one bin": Framing(n_steps=1),
    "windows": Framing("time_window", 10, dt_ms=30),
    "few windows": Framing("time_window", 2, dt_ms=7),
    "first event": Framing("time_window", 5, dt_ms=20, time_zero="first-event"),
    "same stride": Framing("time_window", 5, dt_ms=20, stride_ms=20),
    "overlapping": Framing("time_window", 5, dt_ms=20, stride_ms=10),
    "all of it": Framing("time_window", None, dt_ms=50),
    "number": Framing("event_count", 6),
    "surface": Framing("time_surface", 4, dt_ms=50),
    "voxels": Framing("voxel_grid", 4),
    "filters": Framing(n_steps=3, filters=Filters(thin_ms=1)),
}


def recording(n: int, kind: str) -> bytes:
    """`n` events in a file."""
    rng = np.random.default_rng(n)
    end_us = 20_000_000 if kind == "overflows" else 300_000
    t_us = rng.integers(50_000, end_us, n)
    t_us = t_us if kind == "unsorted" else np.sort(t_us)
    x, y = (rng.integers(0, 1 if kind == "one pixel" else end, n) for end in SIZE[::-1])
    return atis_bytes(Events(t_us, x, y, rng.integers(0, 2, n)))


def same(packed: Packed, framing: Framing) -> None:
    """Holds that frames, counts, or the error are the same by either way."""

    def result(events):
        try:
            return framed(events, SIZE, framing, "this one")
        except (DataError, EventFormatError) as error:
            return str(error)

    found = result(packed)
    try:
        wanted = result(packed.events())
    except EventFormatError as error:
        wanted = str(error)
    if isinstance(wanted, str) or isinstance(found, str):
        assert found == wanted
        return
    assert found[1] == wanted[1], f"{found[1]} events instead of {wanted[1]}"
    assert found[0].dtype == wanted[0].dtype
    assert np.array_equal(found[0], wanted[0]), f"{(found[0] != wanted[0]).sum()} counts differ"


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("kind", ["sorted", "unsorted", "overflows", "one pixel"])
@pytest.mark.parametrize("n", [0, 1, 63, 300, 3000])
def test_frames_of_a_file_are_those_of_its_events(n, kind, framing):
    same(Packed(recording(n, kind), "a.bin", SIZE), framing)


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_what_is_wrong_is_said_as_of_events(framing):
    raw = recording(300, "sorted")
    for bad in (raw[:-1], b"\x22" + raw[1:], raw[:500] + b"\x05\xf1" + raw[502:]):
        packed = Packed(bad, "a.bin", SIZE)
        with pytest.raises(EventFormatError, match=r"a\.bin"):
            packed.events()
        same(packed, framing)


def test_damaged_files_are_right_or_one_sentence():
    rng, raw = np.random.default_rng(0), recording(300, "overflows")
    for _ in range(1000):
        mutant = bytearray(raw)
        for at in rng.integers(0, len(raw), rng.integers(1, 5)):
            mutant[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del mutant[rng.integers(0, len(raw)) :]
        same(Packed(bytes(mutant), "a.bin", SIZE), FRAMINGS["bins"])
        same(Packed(bytes(mutant), "a.bin", SIZE), FRAMINGS["windows"])


@pytest.mark.parametrize(
    ("sensor", "side", "resize", "shrink", "lost"),
    [
        ((720, 1280), 24, "aligned", 1, "99.8%"),
        ((128, 128), 40, "aligned", 1, "60.9%"),
        ((128, 128), 40, "aligned", 2, None),
        ((128, 128), 64, "aligned", 1, None),
        ((720, 1280), 24, "antialias", 1, None),
        ((720, 1280), None, "aligned", 1, None),
    ],
)
def test_pixels_that_never_count_are_told(sensor, side, resize, shrink, lost):
    how = Framing(frame_size=side, frame_resize=resize, filters=Filters(shrink=shrink))
    lines = resize_lines(sensor, how)
    assert [f"events of {lost} of the pixels never count" in line for line in lines] == (
        [True] * (lost is not None)
    )


def test_the_pixels_that_count_are_as_many_as_is_said():
    """One event in every pixel in turn: how many leave a trace in the frames."""
    ones = np.eye(64 * 50, dtype=np.float32).reshape(-1, 64, 50)
    left = resized(ones, Framing(frame_size=12, frame_resize="aligned")).any((1, 2)).mean()
    (line,) = resize_lines((64, 50), Framing(frame_size=12, frame_resize="aligned"))
    told = float(line.split("events of ")[1].split("%")[0]) / 100
    assert left == pytest.approx(1 - told, abs=0.03), "corners lie on pixels, so a few less"
