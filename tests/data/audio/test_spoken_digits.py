"""The embedded data set: what is in the file, its packing, and where it comes from."""

import io
import lzma
import shutil
import subprocess
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from snndelay.data.audio import make_spoken_digits as recipe
from snndelay.data.audio import spoken_digits
from snndelay.data.audio.spoken_digits import CLASSES, FILE, N_UNITS, Split, load, pack, unpack
from snndelay.errors import DataError

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"
)


def test_sizes():
    train, test = load("train"), load("test")
    assert FILE.stat().st_size <= 8e6, f"{FILE.name} has {FILE.stat().st_size} bytes"
    assert (len(train.labels), len(test.labels)) == (1200, 320), "number of clips"
    for part in (train, test):
        assert part.classes == CLASSES, f"classes {part.classes}"
        counts = np.bincount(part.labels, minlength=20)
        assert len(set(counts)) == 1, f"clips per class: {counts}"
    assert len(np.unique(train.speakers)) == 15, "training voices"
    assert len(np.unique(test.speakers)) == 2, "test voices"
    assert not set(train.speakers) & set(test.speakers), "a voice is in both splits"


@pytest.mark.parametrize("split", ["train", "test"])
def test_spikes_are_in_range(split):
    part = load(split)
    types = (part.t_us.dtype, part.unit.dtype, part.offsets.dtype, part.labels.dtype)
    assert types == (np.int64, np.uint16, np.int64, np.int64), f"types {types}"
    assert part.offsets[0] == 0, "the first clip does not begin at 0"
    assert part.offsets[-1] == len(part.t_us) == len(part.unit), "spikes without a clip"
    lengths = np.diff(part.offsets)
    assert lengths.min() > 500, f"a clip has {lengths.min()} spikes"
    assert 2500 < lengths.mean() < 6000, f"{lengths.mean():.0f} spikes per clip"
    assert part.unit.max() < N_UNITS, f"unit {part.unit.max()}"
    assert 0 <= part.t_us.min() <= part.t_us.max() < 1_000_000, "a time is out of range"
    falls = np.flatnonzero(np.diff(part.t_us) < 0) + 1
    assert np.isin(falls, part.offsets).all(), "times fall within a clip"


def test_unknown_split_and_damaged_file(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no split 'valid'"):
        load("valid")
    spoken_digits._decoded.cache_clear()
    monkeypatch.setattr(spoken_digits, "FILE", tmp_path / "spoken_digits.xz")
    for content in (b"", b"nonsense", FILE.read_bytes()[:5000]):
        spoken_digits.FILE.write_bytes(content)
        with pytest.raises(DataError, match="missing or damaged"):
            load("train")


def random_split(rng, clips: int) -> Split:
    lengths = rng.integers(0, 300, clips)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    t_us, unit = rng.integers(0, 1200, offsets[-1]) * 1000, rng.integers(0, 700, offsets[-1])
    for begin, end in pairwise(offsets):
        order = np.lexsort((unit[begin:end], t_us[begin:end]))
        t_us[begin:end], unit[begin:end] = t_us[begin:end][order], unit[begin:end][order]
    labels, speakers = rng.integers(0, 20, (2, clips))
    return Split(t_us, unit.astype(np.uint16), offsets, labels, speakers, CLASSES)


def test_pack_and_unpack_are_inverse():
    rng = np.random.default_rng(1)
    splits = {"train": random_split(rng, 23), "test": random_split(rng, 1)}
    packed = pack(splits, "a note")
    for name, part in unpack(packed).items():
        for field, got, expected in zip(Split._fields, part, splits[name], strict=True):
            assert np.array_equal(got, expected), f"{name} {field} changed"
    assert packed == pack(splits, "a note"), "packing is not deterministic"


def test_the_file_is_what_the_recipe_packs():
    packed = FILE.read_bytes()
    arrays = np.load(io.BytesIO(lzma.decompress(packed)))
    note = arrays["note"].tobytes().decode()
    assert "1.51" in note, f"the file says it came from {note!r}"
    assert f"seed {recipe.SEED}" in note, f"the file says it came from {note!r}"
    for split in spoken_digits.SPLITS:
        part, plan = load(split), recipe.PLAN[split]
        assert part.labels.tolist() == [clip.label for clip in plan], f"{split}: labels"
        assert part.speakers.tolist() == [clip.voice for clip in plan], f"{split}: voices"


def test_a_room_keeps_the_word_and_follows_the_seed():
    word = np.pad(np.sin(np.arange(4000) / 5), 3000)
    one, two, other = (recipe.in_a_room(word, 22_050, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, two), "the same seed gives another recording"
    assert not np.array_equal(one[:4000], other[:4000]), "another seed gives the same recording"
    assert 4000 < one.size < 8000, f"the silence around the word was not cut: {one.size}"


@needs_espeak
@pytest.mark.parametrize(("split", "i"), [("train", 333), ("test", 319)])
def test_espeak_regenerates_the_clips(split, i):
    """Bit for bit on one machine; another CPU's rounding may move a spike or two of thousands."""
    version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    if " 1.51 " not in version:
        pytest.skip(f"the file came from espeak-ng 1.51, here is {version[:40]!r}")
    events, part = recipe.make_clip(recipe.PLAN[split][i]), load(split)
    clip = slice(part.offsets[i], part.offsets[i + 1])
    made = Counter(zip((events.t_us // 1000).tolist(), events.x.tolist(), strict=True))
    kept = Counter(zip((part.t_us[clip] // 1000).tolist(), part.unit[clip].tolist(), strict=True))
    different = sum(((made - kept) + (kept - made)).values())
    assert different <= 0.005 * len(events), f"{different} of {len(events)} spikes differ"
