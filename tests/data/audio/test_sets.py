import numpy as np
import pytest

from snndelay.data.archives import ARCHIVES
from snndelay.data.audio import sets as datasets
from snndelay.data.catalog import open_clips
from snndelay.errors import DataError, EventFormatError

from ...helpers_data import CLASSES, small_file


def test_file_follows_the_protocol(tmp_path):
    path = small_file(tmp_path / "a.h5", speakers=np.arange(12) % 4)
    data = open_clips(str(path))
    events, label, identity = data[5]
    assert (len(data), data.n_units, data.classes) == (12, 700, CLASSES)
    assert label == data.labels[5] == 2
    assert identity == f"{path}:5"
    assert len(events.validate(700)) >= 20
    assert data.speakers.tolist() == [i % 4 for i in range(12)]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(DataError, match="did you mean shd"):
        open_clips("sdh")
    with pytest.raises(DataError, match="one of spoken-digits, shd, ssc"):
        open_clips("mnist-777")
    with pytest.raises(DataError, match="no split 'dev'"):
        open_clips("shd", split="dev")


def test_missing_file_names_its_neighbours(tmp_path):
    small_file(tmp_path / "digits_train.h5")
    with pytest.raises(DataError, match="that folder has digits_train"):
        open_clips(str(tmp_path / "digit_train.h5"))
    with pytest.raises(DataError, match="no folder"):
        open_clips(str(tmp_path / "none" / "a.h5"))


def test_missing_named_set_says_what_to_do(tmp_path):
    for name, split, file in (("shd", "train", "shd_train.h5"), ("ssc", "valid", "ssc_valid.h5")):
        with pytest.raises(DataError, match=f"{file} is missing.*zenkelab.org.*--download"):
            open_clips(name, str(tmp_path), split)
    with pytest.raises(DataError, match="shd has no valid split but train or test"):
        open_clips("shd", str(tmp_path), "valid")


@pytest.mark.parametrize("folder", datasets.FOLDERS)
def test_named_set_is_found_where_others_leave_it(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    small_file(tmp_path / folder / "shd_test.h5", 3)
    assert len(open_clips("shd", str(tmp_path), "test")) == 3


def test_download_brings_the_file_of_the_split(tmp_path, monkeypatch):
    asked = []

    def fake(folder, tonic_class, options, url):
        asked.append((tonic_class, options))
        if tonic_class == "SSC":
            raise DataError("no route to host")
        (folder / "SHD").mkdir()
        small_file(folder / "SHD" / f"shd_{'train' if options['train'] else 'test'}.h5", 3)

    monkeypatch.setattr(datasets, "fetch", fake)
    assert len(open_clips("shd", str(tmp_path), "train", download=True)) == 3
    with pytest.raises(DataError, match="no route to host"):
        open_clips("ssc", str(tmp_path), "train", download=True)
    assert asked == [("SHD", {"train": True}), ("SSC", {"split": "train"})]
    assert all((name, next(iter(options.values()))) in ARCHIVES for name, options in asked)


def test_damaged_file_is_a_format_error(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(EventFormatError):
        open_clips(str(tmp_path / "a.h5"))


def test_subsets_know_where_their_clips_come_from(tmp_path):
    path = small_file(tmp_path / "a.h5", speakers=np.arange(12) % 4)
    data = open_clips(str(path))
    half = data.subset(np.arange(11, 0, -2))
    part = half.subset(np.array([4, 0]))
    assert (len(half), len(part)) == (6, 2)
    for i, place in enumerate((3, 11)):
        events, label, identity = part[i]
        want = data[place]
        assert np.array_equal(events.t_us, want[0].t_us) and (label, identity) == want[1:]
        assert (part.labels[i], part.speakers[i]) == (label, place % 4)
    assert part[-1][2] == f"{path}:11" and part.classes == data.classes
    with pytest.raises(IndexError):
        part[2]
