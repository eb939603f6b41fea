"""Recordings that are shorter than one frame are warned of, where frames have a length."""

import numpy as np
import pytest

from snndelay.data.catalog import open_recordings
from snndelay.data.vision.clock import clock_lines, short_lines
from snndelay.data.vision.framing import Framing
from snndelay.errors import DataError

WINDOWS = Framing("time_window", 10, 10.0)


def write(folder, scale: float, n: int = 12, ending: str = ".npy"):
    """Recordings of 40 ms, their times in us / scale, as tonic cuts gestures."""
    rng = np.random.default_rng(0)
    for i in range(n):
        t = np.sort(rng.integers(0, 40_000, 50)) / scale
        rows = np.stack([rng.integers(0, 16, 50), rng.integers(0, 16, 50), np.arange(50) % 2, t], 1)
        path = folder / f"class{i % 2}" / f"{i}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if ending == ".npy":
            np.save(path, np.rint(rows).astype(int))
        else:
            path.write_text("\n".join(f"{t:.0f} {x:.0f} {y:.0f} {p:.0f}" for x, y, p, t in rows))
    return str(folder)


@pytest.mark.parametrize("ending", [".npy", ".txt"])
def test_milliseconds_are_noticed_and_read(tmp_path, ending):
    folder = write(tmp_path, 1e3, ending=ending)
    recordings = open_recordings(folder, size=(16, 16))
    (line,) = clock_lines(recordings, WINDOWS)
    assert "12 of 12 recordings that were looked at last less than one frame of 10 ms" in line
    assert "give --time-unit ms or s" in line
    right = open_recordings(folder, size=(16, 16), time_unit="ms")
    assert clock_lines(right, WINDOWS) == []
    assert right[0][0].t_us.max() > 30_000 > 50 > recordings[0][0].t_us.max()
    assert right.fingerprint() != recordings.fingerprint(), "cached frames would be mixed up"


def test_microseconds_and_frames_without_a_length_say_nothing(tmp_path):
    right = open_recordings(write(tmp_path / "a", 1), size=(16, 16))
    assert clock_lines(right, WINDOWS) == []
    wrong = open_recordings(write(tmp_path / "b", 1e3), size=(16, 16))
    assert clock_lines(wrong, Framing("time_bins", 10)) == []


def test_a_few_in_another_unit_are_noticed(tmp_path, monkeypatch):
    write(tmp_path / "us", 1, n=40)
    folder = write(tmp_path, 1e3, n=3)
    assert clock_lines(open_recordings(str(tmp_path / "us"), size=(16, 16)), WINDOWS) == []
    for path in (tmp_path / "us/class0").iterdir():
        path.rename(tmp_path / "class0" / f"us{path.name}")
    recordings = open_recordings(folder, size=(16, 16))
    (line,) = clock_lines(recordings, WINDOWS)
    assert "3 of 23 recordings that were looked at" in line and "unit of the others" in line
    monkeypatch.setattr("snndelay.data.vision.clock.MOST_BYTES", 1000)
    (line,) = clock_lines(recordings, WINDOWS)
    assert " of 8 recordings that were looked at" in line


def test_damage_is_for_others_to_tell(tmp_path):
    assert short_lines([10_000], WINDOWS) == [] == short_lines([], WINDOWS)
    folder = write(tmp_path, 1e3, n=2)
    (tmp_path / "class0" / "0.npy").write_bytes(b"?")
    (tmp_path / "class0" / "none.txt").write_text("# t x y p\n")
    (line,) = clock_lines(open_recordings(folder, size=(16, 16)), WINDOWS)
    assert "1 of 1" in line


def test_named_sets_have_their_unit():
    with pytest.raises(DataError, match="dvs has its unit of time: leave out --time-unit"):
        open_recordings("dvs", time_unit="ms")
