"""What is made in a folder of its own: it goes at the end, after errors, and after kills."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from snndelay.data.cache import cached_frames
from snndelay.data.making import (
    OLD_S,
    OWNER,
    finish_moves,
    made_whole,
    making,
    move_all,
    remove_abandoned,
)
from snndelay.errors import DataError

MAKE = """
import sys, time
import numpy as np
from snndelay.data.cache import cached_frames

def make(i):
    print(i, flush=True)
    time.sleep(float(sys.argv[2]))
    return np.full((2, 2, 3, 3), i, np.float32)

cached_frames({"a": 1}, make, 4, sys.argv[1])
print("done", flush=True)
"""


def process(folder, seconds=60):
    """A process that makes frames in a folder, and is at the first of them."""
    command = [sys.executable, "-c", MAKE, folder, str(seconds)]
    made = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert made.stdout.readline() == "0\n"
    return made


def frames(folder):
    made = cached_frames({"a": 1}, lambda i: np.full((2, 2, 3, 3), i, np.float32), 4, folder)
    assert made[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3]
    return made


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    with process(tmp_path) as killed:
        killed.send_signal(signal.SIGKILL)
    assert [name.startswith(".making-") for name in names(tmp_path)] == [True]
    frames(tmp_path)
    assert [name.endswith(".npy") for name in names(tmp_path)] == [True]


def test_what_a_process_is_making_stays_and_both_succeed(tmp_path):
    with process(tmp_path, seconds=0.5) as other:
        frames(tmp_path)
        assert [name.startswith(".making-") for name in names(tmp_path)] == [True, False]
        assert other.stdout.read().split() == ["1", "2", "3", "done"]
    assert other.returncode == 0 and len(names(tmp_path)) == 1
    frames(tmp_path)


def test_litter_goes_even_where_the_frames_are_there(tmp_path):
    frames(tmp_path)
    with process(tmp_path / "x") as killed:
        killed.send_signal(signal.SIGKILL)
    (litter,) = (tmp_path / "x").iterdir()
    litter.rename(tmp_path / litter.name)
    frames(tmp_path)
    assert len(names(tmp_path)) == 2  # the file, and x


@pytest.mark.parametrize("age_s", [0, OLD_S - 60, OLD_S + 60])
def test_a_folder_without_an_owner_may_just_be_made(tmp_path, age_s):
    place = tmp_path / ".making-x"
    place.mkdir()
    then = place.stat().st_mtime - age_s
    os.utime(place, (then, then))
    remove_abandoned(tmp_path, ".making-")
    assert place.exists() == (age_s < OLD_S)


def stopped(folder, whole):
    """Ctrl-C while things are made, or when they are whole and move."""
    with making(folder, ".x-") as place:
        (place / "a").mkdir()
        (place / "a/b").write_text("1")
        if whole:
            made_whole(place)
            with pytest.raises(DataError, match="another process fills"):
                finish_moves(folder, ".x-")
        raise KeyboardInterrupt


def test_an_error_takes_the_folder_away_unless_all_is_made(tmp_path):
    for whole in (False, True):
        with pytest.raises(KeyboardInterrupt):
            stopped(tmp_path, whole)
        assert len(names(tmp_path)) == whole
    remove_abandoned(tmp_path, ".x-")
    finish_moves(tmp_path, ".y-")
    assert len(names(tmp_path)) == 1, "what was whole is lost"
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match=r"\.x-.* holds belongs into .* move it by hand"):
        finish_moves(tmp_path, ".x-")
    (tmp_path / "a").unlink()
    finish_moves(tmp_path, ".x-")
    assert names(tmp_path) == ["a"] and (tmp_path / "a/b").read_text() == "1"


def test_folders_are_merged_when_they_are_moved(tmp_path):
    for name in ("source/a/new", "source/a/both", "target/a/both", "target/a/old"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    move_all(tmp_path / "source", tmp_path / "target")
    assert names(tmp_path / "target/a") == ["both", "new", "old"]
    assert (tmp_path / "target/a/both").read_text() == "source/a/both"


def test_the_owner_is_a_name_that_nothing_made_has(tmp_path):
    with making(tmp_path, ".x-") as place:
        assert names(place) == [] and (place.parent / OWNER).exists()
    assert names(tmp_path) == []
