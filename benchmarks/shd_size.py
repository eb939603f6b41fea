"""A data set of SHD's size in SHD's layout, for machines that have no SHD: the embedded spoken
digits repeated, every repetition jittered anew. It is written once to a cache folder.

Synthetic speech told apart by voices: its accuracy says that a network has learned, and nothing
about SHD.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from snndelay.data.audio.augment import augment_clip
from snndelay.data.audio.sets import ClipSet
from snndelay.data.audio.shd import write_shd
from snndelay.data.catalog import open_clips
from snndelay.data.events import Events

N_CLIPS = (8156, 2264)  # training and test clips of SHD (arXiv 1910.07407)
SLOWER = 1.4  # the longest embedded clip lasts 0.7 s, most of SHD's about one
TWICE = 2  # SHD has about twice as many spikes per clip
AMOUNTS = {"aug_time_jitter_ms": 5.0, "aug_unit_shift": 10.0, "aug_unit_jitter": 3.0}
FOLDER = "~/.cache/snndelay/shd-size"


def files(folder: str | Path = FOLDER, n_clips: tuple[int, int] = N_CLIPS) -> tuple[Path, Path]:
    """Files with so many training and test clips, made where they are missing. Training clips come
    from the embedded training clips and test clips from the test clips, so no voice is in both."""
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for split, n in zip(("train", "test"), n_clips, strict=True):
        path = folder / f"{split}-{n}.h5"
        if not path.exists():
            clips = open_clips("spoken-digits", split=split)
            index = np.arange(n) % len(clips)
            labels, speakers = clips.labels[index], clips.speakers
            speakers = None if speakers is None else speakers[index]
            write_shd(path, _repeated(clips, index, split), labels, clips.classes, speakers)
        made.append(path)
    return made[0], made[1]


def _repeated(clips: ClipSet, index: np.ndarray, split: str) -> Iterator[Events]:
    seed = ("train", "test").index(split)
    for i, place in enumerate(index):
        clip = clips[int(place)][0]
        t_us = np.rint(SLOWER * np.tile(clip.t_us, TWICE)).astype(np.int64)
        events = Events(t_us, np.tile(clip.x, TWICE))
        yield augment_clip(events, AMOUNTS, clips.n_units, seed=seed, index=i)
