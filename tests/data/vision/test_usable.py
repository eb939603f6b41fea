"""Bad recordings and images are refused by name, or left out and counted."""

from dataclasses import replace

import numpy as np
import pytest

from snndelay.data.catalog import open_images, open_recordings
from snndelay.data.vision.framing import Framing
from snndelay.data.vision.loader import recording_frames
from snndelay.data.vision.usable import usable_images, usable_recordings
from snndelay.errors import DataError, EventFormatError

from ...helpers_vision import write_tiny_vision

FRAMING = Framing(n_steps=4)


@pytest.fixture
def folders(tmp_path):
    return write_tiny_vision(tmp_path, n=4)


def spoil(folder, name: str, raw: bytes) -> None:
    (folder / name).write_bytes(raw)


def test_all_that_is_good_stays_as_it_is(folders, tmp_path):
    recordings, images = open_recordings(folders[0]), open_images(folders[1])
    assert usable_recordings(recordings, FRAMING, None) == (recordings, [])
    assert usable_images(images, tmp_path / "cache") == (images, [])


@pytest.mark.parametrize("cached", [True, False])
def test_bad_recordings_are_left_out_and_counted(folders, tmp_path, cached):
    folder, cache = tmp_path / "recordings", tmp_path / "cache" if cached else None
    spoil(folder, "bar/image_0002.bin", b"cut")
    spoil(folder, "post/image_0000.bin", b"")
    recordings = open_recordings(folders[0])
    with pytest.raises(EventFormatError, match=r"image_0002\.bin, byte 0: 3 bytes of a 5-byte"):
        recording_frames(recordings, FRAMING, None)
    kept, said = usable_recordings(recordings, FRAMING, cache)
    assert said[0].startswith("left out 2 of 12 recordings that cannot be used; the first: ")
    assert "image_0002.bin" in said[0] and len(said) == 1
    wanted = [i for i in range(12) if i not in (2, 8)]
    assert kept.labels.tolist() == recordings.labels[wanted].tolist() and len(kept) == 10
    assert kept.classes == recordings.classes and kept.fingerprint() != recordings.fingerprint()
    for at, i in enumerate(wanted):
        one, other = kept[at], recordings[i]
        assert one[1:] == other[1:] and np.array_equal(one[0].t_us, other[0].t_us)
    assert len(recording_frames(kept, FRAMING, None)) == 10
    if cached:  # what was good is not read again, what was bad is
        read, tried = recordings.read, []
        asked = replace(recordings, read=lambda i: tried.append(i) or read(i))
        assert len(usable_recordings(asked, FRAMING, cache)[0]) == 10
        assert tried == [2, 8]


def test_what_failed_once_is_tried_again(folders, tmp_path):
    """A disk that fails, or a package that is missing, is no verdict for ever."""
    recordings = open_recordings(folders[0])

    def fails(i):
        if i == 3:
            raise DataError("the disk is away")
        return recordings.read(i)

    away = replace(recordings, read=fails)
    kept, said = usable_recordings(away, FRAMING, tmp_path / "cache")
    assert len(kept) == 11 and said[0].endswith("the first: the disk is away")
    assert usable_recordings(recordings, FRAMING, tmp_path / "cache") == (recordings, [])

    def lacks(i):
        raise DataError("reading x needs a package") from ImportError("aedat")

    with pytest.raises(DataError, match=r"^reading x needs a package$"):
        usable_recordings(replace(recordings, read=lacks), Framing(n_steps=5), tmp_path / "cache")


def test_a_class_of_bad_ones_is_named(folders, tmp_path):
    for i in range(4):
        spoil(tmp_path / "recordings", f"bar/image_000{i}.bin", b"")
    kept, said = usable_recordings(open_recordings(folders[0]), FRAMING, None)
    assert said[1:] == ["no usable sample of class bar is left"] and len(kept) == 8


def test_bad_images_are_left_out_and_counted(folders, tmp_path):
    spoil(tmp_path / "images", "dot/image_0001.png", b"no image")
    images = open_images(folders[1])
    kept, said = usable_images(images, None)
    assert said == [
        "left out 1 of 12 images that cannot be used; the first: "
        f"{tmp_path}/images/dot/image_0001.png cannot be read as an image (no JPEG, PNG, BMP, "
        "PPM, TIFF, GIF or WEBP, or damaged)"
    ]
    assert kept.identities == [name for name in images.identities if name != "dot/image_0001"]


def test_a_set_of_bad_ones_is_refused(tmp_path):
    (tmp_path / "set/a").mkdir(parents=True)
    for i in range(3):
        spoil(tmp_path, f"set/a/{i}.bin", b"")
    recordings = open_recordings(str(tmp_path / "set"), size=(4, 4))
    with pytest.raises(DataError, match="none of the 3 recordings can be used, the first because"):
        usable_recordings(recordings, FRAMING, None)
