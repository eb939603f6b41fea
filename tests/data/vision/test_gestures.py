"""DVS128-Gesture's original archive: lists, tables, and what is wrong with them."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from snndelay.data.catalog import open_recordings
from snndelay.errors import DataError, EventFormatError

from ...helpers_formats import aedat3, assert_same, random_events

TABLE = "class,startTime_usec,endTime_usec\n"
TRAIN = "user01_led.aedat\nuser02_led.aedat\n\n"


def archive(folder: Path):
    """Two recordings for training, one for testing; returns their events."""
    folder.mkdir(parents=True)
    (folder / "trials_to_train.txt").write_text(TRAIN)
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\n")
    (folder / "gesture_mapping.csv").write_text("action,label\nhand_clapping,1\n")
    events = {}
    for i, name in enumerate(("user01_led", "user02_led", "user24_led")):
        events[name] = random_events(300, i, (128, 128), 9_000_000)
        (folder / f"{name}.aedat").write_bytes(aedat3(events[name]))
        rows = "1,1000000,2500000\n11,2500000,6000000\n11,6000000,8000000\n"
        (folder / f"{name}_labels.csv").write_text(TABLE + rows)
    return events


@pytest.mark.parametrize("folder", ["", "DvsGesture", "DVSGesture"])
def test_the_archive_is_cut_by_its_tables(tmp_path, folder):
    events = archive(tmp_path / folder if folder else tmp_path / "x")
    data = open_recordings("dvsgesture", str(tmp_path if folder else tmp_path / "x"))
    assert data.labels.tolist() == [0, 10, 10] * 3 and data.size == (128, 128)
    assert data.in_test.tolist() == [False] * 6 + [True] * 3
    assert data.identities[:3] == ["user01_led/0", "user01_led/10", "user01_led/10_1"]
    assert len(set(data.identities)) == 9
    for i, (start, end) in enumerate(((1e6, 2.5e6), (2.5e6, 6e6), (6e6, 8e6)), 3):
        whole = events["user02_led"]
        want = whole.select((whole.t_us >= start) & (whole.t_us < end))
        got = data[i][0]
        assert_same(got, type(want)(want.t_us - int(start), want.x, want.y, want.p))
        assert len(got) > 20
    assert len(pickle.loads(pickle.dumps(data))[8][0]) == len(data[8][0])


def test_the_archive_by_its_folder_is_the_same(tmp_path):
    archive(tmp_path / "mine")
    by_path = open_recordings(str(tmp_path / "mine"))
    by_name = open_recordings("dvsgesture", str(tmp_path / "mine"))
    assert by_path.fingerprint() == by_name.fingerprint()


def test_a_recording_that_changes_is_read_again(tmp_path):
    archive(tmp_path / "mine")
    data = open_recordings(str(tmp_path / "mine"))
    before = len(data[0][0])
    path = tmp_path / "mine" / "user01_led.aedat"
    path.write_bytes(aedat3(random_events(900, 9, (128, 128), 9_000_000)))
    assert len(data[0][0]) > before
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(EventFormatError, match=r"user01_led\.aedat, byte"):
        data[0]
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read the recording .*user01_led\.aedat"):
        data[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("user01_led_labels.csv", TABLE + "12,0,5\n", "a class 12, and there are 11"),
        ("user01_led_labels.csv", TABLE + "0,0,5\n", "line 2: class 0 from 0 to 5 us"),
        ("user01_led_labels.csv", TABLE + "1,0,5\n1,9,5\n", "line 3: class 1 from 9 to 5 us"),
        ("user01_led_labels.csv", TABLE + "1,x,5\n", "line 2: expected class,startTime_usec"),
        ("user01_led_labels.csv", "a,b\n1,2\n", "line 2: expected class,startTime_usec"),
        ("trials_to_test.txt", "user01_led.aedat\n", "user01_led.aedat is listed twice"),
        (
            "trials_to_test.txt",
            "user99_led.aedat\n",
            r"there is no .*user99_led\.aedat, which",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, words):
    archive(tmp_path / "mine")
    (tmp_path / "mine" / name).write_text(text)
    with pytest.raises(DataError, match=words):
        open_recordings(str(tmp_path / "mine"))


def test_only_a_part_is_no_split(tmp_path):
    archive(tmp_path / "mine")
    (tmp_path / "mine" / "trials_to_test.txt").unlink()
    data = open_recordings(str(tmp_path / "mine"))
    assert data.in_test is None and np.bincount(data.labels).tolist() == [2] + [0] * 9 + [4]
