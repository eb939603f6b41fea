"""What a file holds is looked up in it where its ending leaves it open."""

import h5py
import numpy as np
import pytest

from snndelay.data.one_file import one_sample

from ..helpers_formats import FORMATS, sample
from ..helpers_training import write_tiny
from ..helpers_waves import write_wave


@pytest.mark.parametrize("name", FORMATS)
def test_recordings_of_every_format(tmp_path, name):
    path = tmp_path / f"a{FORMATS[name][0]}"
    path.write_bytes(sample(name, 40, 0)[0])
    assert one_sample(path) == "recording"


def test_other_single_samples(tmp_path):
    np.savez(tmp_path / "a.npz", T=[1], X=[1], Y=[1], Polarity=[1], sensor=[34, 34])
    (tmp_path / "a.csv").write_text("x,y,t,p\n1,2,100,1\n")
    (tmp_path / "b.csv").write_text("100;1;2;1\n200;1;2;0\n")
    for name in ("a.npz", "a.csv", "b.csv"):
        assert one_sample(tmp_path / name) == "recording", name
    (tmp_path / "a.txt").write_text("0.1 5\n")
    assert one_sample(tmp_path / "a.txt") == "clip"
    assert one_sample(write_wave(tmp_path / "a.wav")) == "audio file"


def test_sets_and_what_cannot_be_read(tmp_path):
    write_tiny(tmp_path / "clips.h5")
    np.savez(tmp_path / "clips.npz", times=[0.1], units=[1], offsets=[0, 1], labels=[0])
    np.savez(tmp_path / "events.npz", t=[1], x=[1], y=[1], labels=[0])
    (tmp_path / "list.csv").write_text("file,label\na.wav,x\n")
    (tmp_path / "notes.md").write_text("1 2 3 4\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["frames"] = np.zeros(3)
    for name in ("cut.npz", "cut.h5", "empty.csv"):
        (tmp_path / name).write_bytes(
            (tmp_path / "clips.npz").read_bytes()[: 20 * name.startswith("cut")]
        )
    (tmp_path / "folder.npz").mkdir()
    for path in (*tmp_path.iterdir(), tmp_path / "gone.bin"):
        assert one_sample(path) == "", path
