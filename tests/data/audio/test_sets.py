import sys
from types import SimpleNamespace

import numpy as np
import pytest

from snndelay.data.audio import sets as datasets
from snndelay.data.audio.sets import open_dataset, splits, valid_mask
from snndelay.errors import DataError, EventFormatError

from ...helpers_data import CLASSES, settings, small_file


def test_file_follows_the_protocol(tmp_path):
    path = small_file(tmp_path / "a.h5", speakers=np.arange(12) % 4)
    data = open_dataset(str(path))
    events, label, identity = data[5]
    assert (len(data), data.n_units, data.classes) == (12, 700, CLASSES)
    assert label == data.labels[5] == 2
    assert identity == f"{path}:5"
    assert len(events.validate(700)) >= 20
    assert data.speakers.tolist() == [i % 4 for i in range(12)]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match="did you mean shd"):
        open_dataset("sdh")
    with pytest.raises(DataError, match="one of spoken-digits, shd, ssc"):
        open_dataset("mnist-777")
    with pytest.raises(DataError, match="no split 'dev'"):
        open_dataset("shd", split="dev")


def test_missing_file_names_its_neighbours(tmp_path):
    small_file(tmp_path / "digits_train.h5")
    with pytest.raises(DataError, match="that folder has digits_train"):
        open_dataset(str(tmp_path / "digit_train.h5"))
    with pytest.raises(DataError, match="no folder"):
        open_dataset(str(tmp_path / "none" / "a.h5"))


def test_missing_named_set_says_what_to_do(tmp_path):
    for name, split, file in (("shd", "train", "shd_train.h5"), ("ssc", "valid", "ssc_valid.h5")):
        with pytest.raises(DataError, match=f"{file} is missing.*zenkelab.org.*--download"):
            open_dataset(name, str(tmp_path), split)
    with pytest.raises(DataError, match="no validation file"):
        open_dataset("shd", str(tmp_path), "valid")


@pytest.mark.parametrize("folder", datasets.FOLDERS)
def test_named_set_is_found_where_others_leave_it(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    small_file(tmp_path / folder / "shd_test.h5", 3)
    assert len(open_dataset("shd", str(tmp_path), "test")) == 3


def test_download_goes_through_tonic(tmp_path, monkeypatch):
    def shd(save_to, train):
        (tmp_path / "SHD").mkdir()
        small_file(tmp_path / "SHD" / f"shd_{'train' if train else 'test'}.h5", 3)

    def ssc(save_to, split):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "tonic.datasets", SimpleNamespace(SHD=shd, SSC=ssc))
    monkeypatch.setitem(sys.modules, "tonic", SimpleNamespace())
    assert len(open_dataset("shd", str(tmp_path), "train", download=True)) == 3
    with pytest.raises(DataError, match="no route to host"):
        open_dataset("ssc", str(tmp_path), "train", download=True)


def test_damaged_file_is_a_format_error(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(EventFormatError):
        open_dataset(str(tmp_path / "a.h5"))


def test_splits_are_disjoint_by_speaker_and_leave_test_alone(tmp_path):
    speakers = np.arange(40) % 8
    path = small_file(tmp_path / "a.h5", 40, speakers=speakers)
    test_path = small_file(tmp_path / "b.h5", 6, seed=1)
    config = settings(dataset=str(path), test_file=str(test_path))
    train, valid, test = splits(config)
    assert set(train.speakers).isdisjoint(valid.speakers), "a speaker is on both sides"
    ids = [part[i][2] for part in (train, valid) for i in range(len(part))]
    assert sorted(ids) == sorted(f"{path}:{i}" for i in range(40)), "clips lost or doubled"
    assert len(valid) == 10, f"{len(valid)} of 40 clips for a quarter"
    assert len(test) == 6
    assert all(test[i][2].startswith(str(test_path)) for i in range(6))
    again, other = splits(config)[1], splits(config, split_seed=3)[1]
    assert np.array_equal(again.indices, valid.indices), "the split is not reproducible"
    assert not np.array_equal(other.indices, valid.indices), "split_seed has no effect"
    assert [valid[i][1] for i in range(len(valid))] == valid.labels.tolist()


@pytest.mark.parametrize("change", [{"valid_fraction": 0.0}, {"protocol": "best-on-test"}])
def test_no_validation(tmp_path, change):
    path = small_file(tmp_path / "a.h5")
    train, valid, test = splits(settings(dataset=str(path), **change))
    assert (len(train), valid, test) == (12, None, None)


def test_ssc_brings_its_own_validation(tmp_path):
    for seed, split in enumerate(("train", "valid", "test")):
        small_file(tmp_path / f"ssc_{split}.h5", 6 + seed, seed)
    config = settings(dataset="ssc", root=str(tmp_path))
    assert [len(part) for part in splits(config)] == [6, 7, 8]


@pytest.mark.parametrize("classes", [["null", "eins"], ["null", "eins", "zwei"]])
def test_other_classes_in_the_test_file_are_refused(tmp_path, classes):
    path = small_file(tmp_path / "a.h5")
    other = small_file(tmp_path / "b.h5", labels=np.zeros(12), classes=classes)
    with pytest.raises(DataError, match="test clips have other classes"):
        splits(settings(dataset=str(path), test_file=str(other)))


def test_valid_mask_without_speakers_is_stratified():
    labels = np.repeat([0, 1, 2], [40, 20, 1])
    for speakers in (None, np.zeros(61, int)):
        mask = valid_mask(labels, speakers, 0.25, seed=0)
        counts = np.bincount(labels[mask], minlength=3).tolist()
        assert counts == [10, 5, 0], f"{counts}: a quarter of every class, the lone clip trains"


def test_valid_mask_keeps_one_speaker_for_training():
    speakers = np.array([0, 0, 1])
    mask = valid_mask(np.zeros(3, int), speakers, 0.99, seed=0)
    assert 0 < mask.sum() < 3, "no training clip is left"


def test_spoken_digits():
    pytest.importorskip("snndelay.data.audio.encode_folder.spoken_digits")
    train, valid, test = splits(settings())
    assert set(train.speakers).isdisjoint(valid.speakers)
    assert len(train) > len(valid) > 0
    assert train.classes == test.classes
    events, label, identity = test[0]
    events.validate(test.n_units)
    assert 0 <= label < len(test.classes)
    assert identity == "spoken-digits test:0"
    with pytest.raises(DataError, match="no validation"):
        open_dataset("spoken-digits", split="valid")
