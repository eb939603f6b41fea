"""Labels in a file of their own."""

import io

import h5py
import numpy as np
import pytest

from snndelay.data.audio.labels import read_labels
from snndelay.data.audio.shd import Reading
from snndelay.data.audio.spike_files import open_npz
from snndelay.data.audio.split import split_clips
from snndelay.data.catalog import open_clips
from snndelay.errors import DataError, EventFormatError

from ...helpers_data import small_file
from .test_spike_files import write_npz


@pytest.mark.parametrize(
    ("text", "labels", "classes"),
    [
        ("10\n9\n10\n-1\n", [2, 1, 2, 0], ["-1", "9", "10"]),
        ("yes\nno\n\nyes\nyes", [1, 0, 1, 1], ["no", "yes"]),
        ("label\nb\na\nb\nb\n", [1, 0, 1, 1], ["a", "b"]),
        ("clip, Label\n0,b\n1,ü ö\n2,b\n3,b\n", [0, 1, 0, 0], ["b", "ü ö"]),
    ],
)
def test_tables_and_lines(tmp_path, text, labels, classes):
    (tmp_path / "a_l.csv").write_text(text, encoding="utf-8-sig")
    found = read_labels(tmp_path / "a.h5", "*_l.csv", 4)
    assert (found[0].tolist(), found[1]) == (labels, classes)


@pytest.mark.parametrize(
    "values", [np.array([3, 7, 3]), np.array(["x", "ü", "x"]), [b"x", b"y", b"x"]]
)
def test_arrays(tmp_path, values):
    np.save(tmp_path / "labels.npy", values)
    labels, classes = read_labels(tmp_path / "a.npz", "labels.npy", 3)
    assert len(classes) == 2 and labels[0] == labels[2] != labels[1]


def saved(array: np.ndarray) -> bytes:
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def claiming(n: int) -> bytes:
    """The beginning of an array of so many numbers."""
    head = {"descr": "<i8", "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file := io.BytesIO(), head)
    return file.getvalue() + bytes(24)


LARGE = claiming(2**36)
NO_TEXT = saved(np.array(list("abc"))).replace(b"b\0\0\0", b"b\0\0\x7f")


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("l.csv", b"1\n2\n", "2 labels for 3 clips of"),
        ("l.csv", b"1,2\n", "needs a column called label"),
        ("l.csv", b"label,x\n,1\n", "a label is empty"),
        ("l.csv", b"\xff\xfe", "no labels"),
        ("l.csv", b"", "0 labels for 3"),
        ("l.npy", b"\x93NUMPY?", "no labels"),
        ("l.csv", b"9" * 5000 + b"\n1\n2\n", "no labels"),
        ("l.csv", b"9" * 20 + b"\n1\n2\n", "no labels"),
        ("l.npy", NO_TEXT, "no labels"),
        ("l.npy", LARGE, "no labels .*(greater|larger|mmap)"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, name, raw, words):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(EventFormatError, match=words) as error:
        read_labels(tmp_path / "a.h5", name, 3)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_files_of_clips_without_labels(tmp_path):
    files = [small_file(tmp_path / f"{name}.h5", 12, seed) for seed, name in enumerate("ab")]
    words = [["up", "down", "left"][i % 3] for i in range(12)]
    for k, path in enumerate(files):
        with h5py.File(path, "a") as file:
            del file["labels"], file["extra"]
        (tmp_path / f"{path.stem}_labels.csv").write_text("\n".join(words[: 12 - k] + words[:k]))
    reading = Reading(label_key="*_labels.csv")
    train, _, test = split_clips(
        str(files[0]), test_file=str(files[1]), valid_fraction=0, reading=reading
    )
    assert [train.classes[k] for k in train.labels] == words
    assert test.classes == train.classes == ["down", "left", "up"] and len(train[0][0])
    clips = open_npz(write_npz(tmp_path / "c.npz", labels=None), reading._replace(labelled=False))
    assert clips.labels.tolist() == [-1] * 4 and clips.classes == []
    (tmp_path / "c_labels.csv").write_text("1\n2\n2\n1")
    clips = open_npz(tmp_path / "c.npz", reading)
    assert (clips.labels.tolist(), clips.classes) == ([0, 1, 1, 0], ["1", "2"])
    with pytest.raises(EventFormatError, match=r"lacks labels: .* see --label-key"):
        open_clips(str(files[0]))
    with pytest.raises(DataError, match=r"no file of labels .*a_l\.npy: change --label-key"):
        open_clips(str(files[0]), reading=Reading(label_key="*_l.npy"))
