import numpy as np
import pytest

from snndelay.data.audio.split import split_clips, valid_mask
from snndelay.data.catalog import open_clips
from snndelay.errors import DataError

from ...helpers_data import small_file


def settings(**changes) -> dict:
    return {"dataset": "spoken-digits", "root": "/nowhere", "valid_fraction": 0.25} | changes


def test_splits_are_disjoint_by_speaker_and_leave_test_alone(tmp_path):
    speakers = np.arange(40) % 8
    path = small_file(tmp_path / "a.h5", 40, speakers=speakers)
    test_path = small_file(tmp_path / "b.h5", 6, seed=1)
    config = settings(dataset=str(path), test_file=str(test_path))
    train, valid, test = split_clips(**config)
    assert set(train.speakers).isdisjoint(valid.speakers), "a speaker is on both sides"
    ids = [part[i][2] for part in (train, valid) for i in range(len(part))]
    assert sorted(ids) == sorted(f"{path}:{i}" for i in range(40)), "clips lost or doubled"
    assert len(valid) == 10, f"{len(valid)} of 40 clips for a quarter"
    assert len(test) == 6
    assert all(test[i][2].startswith(str(test_path)) for i in range(6))
    again, other = split_clips(**config)[1], split_clips(**config, seed=3)[1]
    assert np.array_equal(again.index, valid.index), "the split is not reproducible"
    assert not np.array_equal(other.index, valid.index), "the seed has no effect"
    assert [valid[i][1] for i in range(len(valid))] == valid.labels.tolist()


@pytest.mark.parametrize("change", [{"valid_fraction": 0.0}, {"protocol": "best-on-test"}])
def test_no_validation(tmp_path, change):
    path = small_file(tmp_path / "a.h5")
    train, valid, test = split_clips(**settings(dataset=str(path), **change))
    assert (len(train), valid, test) == (12, None, None)


def test_ssc_brings_its_own_validation(tmp_path):
    for seed, split in enumerate(("train", "valid", "test")):
        small_file(tmp_path / f"ssc_{split}.h5", 6 + seed, seed)
    config = settings(dataset="ssc", root=str(tmp_path))
    assert [len(part) for part in split_clips(**config)] == [6, 7, 8]


@pytest.mark.parametrize("classes", [["fünf", "eins"], ["eins", "null", "fünf"], ["eins", "zwei"]])
def test_test_clips_count_in_the_classes_of_training(tmp_path, classes):
    path = small_file(tmp_path / "a.h5")
    other = small_file(tmp_path / "b.h5", labels=np.arange(12) % 2, classes=classes)
    config = settings(dataset=str(path), test_file=str(other))
    if "zwei" in classes:
        with pytest.raises(DataError, match=r"6 of 12 test clips are of classes .* \(zwei\)"):
            split_clips(**config)
        return
    train, _, test = split_clips(**config)
    assert test.classes == train.classes and len(train.classes) == 3
    assert [test.classes[k] for k in test.labels] == classes[:2] * 6


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
    train, valid, test = split_clips(**settings())
    assert set(train.speakers).isdisjoint(valid.speakers)
    assert len(train) > len(valid) > 0
    assert train.classes == test.classes
    events, label, identity = test[0]
    events.validate(test.n_units)
    assert 0 <= label < len(test.classes)
    assert identity == "spoken-digits test:0"
    with pytest.raises(DataError, match="has no valid split but train or test"):
        open_clips("spoken-digits", split="valid")


def test_unknown_protocol_is_refused():
    with pytest.raises(DataError, match="no protocol 'dirty': use clean or best-on-test"):
        split_clips(**settings(protocol="dirty"))


def test_the_split_is_the_one_it_always_was():
    """Which voices validate is part of every published figure: it may not change unnoticed."""
    valid = [np.unique(split_clips("spoken-digits", seed=seed)[1].speakers) for seed in range(3)]
    assert [voices.tolist() for voices in valid] == [[2, 11], [1, 12], [7, 9]]
