"""The catalogue: what kind a data set is, what opens it, and what a wrong name is told."""

import inspect

import numpy as np
import pytest

from snndelay import data
from snndelay.data.archives import ARCHIVES
from snndelay.data.audio.sets import ClipSet
from snndelay.data.catalog import (
    DATASETS,
    kind_of,
    listing,
    open_clips,
    open_images,
    open_recordings,
    open_task,
)
from snndelay.data.vision.sets import RecordingSet
from snndelay.errors import DataError

from ..helpers_data import small_file
from ..helpers_vision import write_tiny_vision

OPENERS = {"audio": (open_clips, ClipSet), "vision": (open_recordings, RecordingSet)}
DRAWN = [name for name, entry in DATASETS.items() if entry.kind == "memory"]
EMBEDDED = [
    name for name, entry in DATASETS.items() if entry.size == "no download" and name not in DRAWN
]


@pytest.mark.parametrize("name", DATASETS)
def test_rows_are_whole(name):
    entry = DATASETS[name]
    arguments = {"audio": ["root", "split", "download"], "vision": ["root", "download"]}
    arguments["memory"] = []
    wanted = ["root"] if entry.is_folder else arguments[entry.kind]
    parameters = inspect.signature(entry.open).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty]
    assert needed == wanted, f"the opener of {name} takes {needed}"
    assert entry.title and entry.licence and entry.size and "\n" not in entry.title
    assert entry.url.startswith("https://") and inspect.getdoc(entry.open)
    assert kind_of(name) == entry.kind
    assert entry.layout and entry.protocol and name in entry.command(name)
    assert not entry.archives or entry.archives in {folder for folder, _ in ARCHIVES}


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_needs_no_download_opens_anywhere(name, tmp_path):
    open_set, kind = OPENERS[kind_of(name)]
    samples = open_set(name, str(tmp_path / "none"))
    events, label, identity = samples[0]
    assert isinstance(samples, kind) and len(events) and samples.classes[label] and identity
    assert len(samples.classes) == DATASETS[name].classes


def test_tasks_are_opened_by_their_names():
    assert DRAWN and all(open_task(name).name == name for name in DRAWN)


def test_both_wings_have_one_set_that_needs_no_download():
    assert {kind_of(name) for name in EMBEDDED} == {"audio", "vision"}


def test_files_are_audio_and_folders_vision(tmp_path):
    for name in ("a.h5", "none/B.HDF5"):
        assert kind_of(str(tmp_path / name)) == "audio"
    assert kind_of(str(tmp_path)) == "vision"
    clips = open_clips(str(small_file(tmp_path / "a.h5", 5)))
    recordings, images = write_tiny_vision(tmp_path)
    assert len(clips) == 5 and len(open_recordings(recordings)) == 27
    assert open_images(images).identities == open_recordings(recordings).identities


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sdh", "did you mean shd"),
        ("DVS-gesture", "did you mean dvsgesture"),
        ("zzz", "choose one of spoken-digits, shd, ssc, gsc, dvs"),
        ("none/there", r"no data set, folder or file \(\.h5.*\) 'none/there'"),
    ],
)
def test_what_is_no_data_set_is_told_the_nearest(name, words):
    with pytest.raises(DataError, match=words) as error:
        kind_of(name)
    assert "\n" not in str(error.value)


def test_a_set_of_the_other_kind_is_refused():
    with pytest.raises(DataError, match=r"no data set of clips, \.h5 file .* 'dvs'.*shd, ssc"):
        open_clips("dvs")
    with pytest.raises(DataError, match="no data set or folder of recordings 'shd'"):
        open_recordings("shd")


def test_the_images_of_the_embedded_recordings_have_a_name():
    images, recordings = open_images("digits"), open_recordings("dvs")
    assert images.identities == recordings.identities
    assert np.array_equal(images.labels, recordings.labels)


def test_listing_has_every_row():
    lines = listing()
    for name, entry in DATASETS.items():
        (line,) = [line for line in lines if line.split()[0] == name]
        assert entry.kind in line and entry.title in line and entry.licence in line
    assert max(map(len, lines)) <= 100, "a line is too long for a terminal"


def test_the_room_gives_its_names_when_asked():
    assert data.open_clips is open_clips and set(data.__all__) <= {*dir(data), *data._LAZY}
    with pytest.raises(AttributeError, match="open_clip'"):
        data.open_clip  # noqa: B018
