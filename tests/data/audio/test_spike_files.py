"""Spikes of .npz and text files, whole and damaged."""

import io
import zipfile
from itertools import chain, pairwise

import numpy as np
import pytest

from snndelay.data.audio.paths import open_path
from snndelay.data.audio.shd import AS_STORED, Reading
from snndelay.data.audio.spike_files import open_npz, parse_clip
from snndelay.errors import EventFormatError

from ...helpers_formats import mutants, put, scattered

SIZES = [5, 1, 9, 3]


def spikes(seed=0):
    rng, n = np.random.default_rng(seed), sum(SIZES)
    times = np.sort(rng.uniform(0, 0.9, n)).astype(np.float32)
    return times, rng.integers(0, 700, n).astype(np.uint16), np.cumsum([0, *SIZES])


def write_npz(path, **changes):
    times, units, offsets = spikes()
    arrays = dict(times=times, units=units, offsets=offsets, labels=np.array([0, 1, 1, 0]))
    arrays |= {"keys": np.array(["nein", "ja"])}
    arrays = {name: a for name, a in (arrays | changes).items() if a is not None}
    np.savez(path, **arrays)
    return path


def split_up(flat, offsets):
    parts = np.empty(len(offsets) - 1, object)
    parts[:] = [flat[a:b] for a, b in pairwise(offsets)]
    return parts


def test_flat_and_object_arrays_are_the_same_clips(tmp_path):
    times, units, offsets = spikes()
    objects = dict(times=split_up(times, offsets), units=split_up(units, offsets), offsets=None)
    for path in (write_npz(tmp_path / "a.npz"), write_npz(tmp_path / "b.npz", **objects)):
        clips = open_npz(path)
        assert (clips.classes, clips.labels.tolist()) == (["nein", "ja"], [0, 1, 1, 0])
        assert (len(clips), clips.speakers, clips.n_units) == (4, None, 700)
        for i in range(4):
            events, _, name = clips[i]
            part = slice(offsets[i], offsets[i + 1])
            assert events.t_us.tolist() == np.rint(times[part].astype(float) * 1e6).tolist()
            assert events.x.tolist() == units[part].tolist() and name == f"{path}:{i}"


def test_a_plain_table_is_a_clip_a_row(tmp_path):
    times, units = np.arange(6.0).reshape(2, 3) / 10, np.arange(6).reshape(2, 3)
    changes = dict(times=times, units=units, offsets=None, labels=np.array([4, 2]), keys=None)
    clips = open_npz(write_npz(tmp_path / "a.npz", **changes, speaker=np.array([7, 8])))
    assert clips.classes == ["2", "4"] and clips.labels.tolist() == [1, 0]
    assert clips[1][0].t_us.tolist() == [300_000, 400_000, 500_000]
    assert clips.speakers.tolist() == [7, 8]


def test_another_key_and_another_clock(tmp_path):
    times, *_ = spikes()
    path = write_npz(
        tmp_path / "a.npz", times=(times * 1e3).astype(int), mood=np.array([3, 3, 9, 3])
    )
    clips = open_npz(path, Reading("ms", "first-event", label_key="mood", n_units=1000))
    assert clips.classes == ["3", "9"] and clips.n_units == 1000
    assert all(clips[i][0].t_us.min() == 0 for i in range(4))
    assert all((clips[i][0].t_us % 1000 == 0).all() for i in range(4))
    forward = open_npz(path, Reading("ms"))
    back = open_npz(path, Reading("ms", reverse=True))
    assert (
        back[2][0].t_us.tolist()
        == (forward[2][0].t_us.min() + forward[2][0].t_us.max() - forward[2][0].t_us).tolist()
    )


def bad(name):
    """Arrays that break the layout in one way."""
    times, units, offsets = spikes()
    late, far = times.copy(), units.copy()
    late[6], far[6] = np.nan, 700
    return {
        "no array 'units'": dict(units=None),
        "no array 'labels'": dict(labels=None),
        "whole numbers, no seconds": dict(times=times.astype(int)),
        "clip 2: .* negative or not finite; mend it, or leave": dict(times=late),
        r"clip 2: a unit lies outside 0\.\.699, see --n-units": dict(units=far),
        "18 times but 17 units": dict(units=units[:-1]),
        "offsets do not rise from 0": dict(offsets=offsets[::-1].copy()),
        "offsets are no list": dict(offsets=offsets * 1.0),
        "so it needs offsets": dict(offsets=None),
        r"labels 0\.\.2 are not all in 0\.\.1": dict(labels=np.array([0, 1, 2, 0])),
        "labels have type .* for 4 clips": dict(labels=np.array([0, 1])),
        "keys have type int64, not text": dict(keys=np.arange(2)),
        "two classes are called 'a': rename one": dict(keys=np.array(["a", "a"])),
        "units have type float32": dict(units=times),
        "speaker have type": dict(speaker=np.zeros(4)),
        "times of 2 clips, units of 3": dict(
            times=np.zeros((2, 2)), units=np.zeros((3, 2), int), offsets=None
        ),
        "clip 1: 3 times but 2 units": dict(
            times=split_up(times, [0, 2, 5]), units=split_up(units, [0, 2, 4]), offsets=None
        ),
        "clip 0: its times and units are no lists": dict(
            times=split_up(times, [0, 2]), units=split_up(np.array(["a"] * 2), [0, 2]), offsets=None
        ),
    }[name]  # fmt: skip


@pytest.mark.parametrize("words", [
    "no array 'units'", "no array 'labels'", "whole numbers, no seconds",
    "clip 2: .* negative or not finite; mend it, or leave",
    r"clip 2: a unit lies outside 0\.\.699, see --n-units", "18 times but 17 units",
    "offsets do not rise from 0", "offsets are no list", "so it needs offsets",
    r"labels 0\.\.2 are not all in 0\.\.1", "labels have type .* for 4 clips",
    "keys have type int64, not text", "units have type float32", "speaker have type",
    "two classes are called 'a': rename one",
    "times of 2 clips, units of 3", "clip 1: 3 times but 2 units",
    "clip 0: its times and units are no lists",
])  # fmt: skip
def test_what_breaks_the_layout_is_one_sentence(tmp_path, words):
    path = write_npz(tmp_path / "a.npz", **bad(words))
    with pytest.raises(EventFormatError, match=words) as error:
        open_npz(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_names_of_classes_do_not_matter_where_labels_do_not(tmp_path):
    path = write_npz(tmp_path / "a.npz", keys=np.array(["a", "a"]))
    assert len(open_npz(path, Reading(labelled=False))) == 4


def test_bad_clips_are_left_out_if_asked(tmp_path):
    times, units, _ = spikes()
    times[6], units[0] = -1, 900
    clips = open_npz(
        write_npz(tmp_path / "a.npz", times=times, units=units), Reading(skip_bad=True)
    )
    assert [len(clips[i][0]) for i in range(4)] == [0, 1, 0, 3]
    assert "see --n-units" in clips.why_bad(0) and "negative" in clips.why_bad(2)
    assert clips.why_bad(1) is None
    assert clips.subset(np.array([2])).why_bad(0) == clips.why_bad(2)


class Evil:
    def __reduce__(self):
        return print, ("it ran",)


def test_a_pickled_program_is_not_run(tmp_path, capsys):
    objects = np.empty(1, object)
    objects[0] = Evil()
    path = write_npz(tmp_path / "a.npz", times=objects, units=objects, offsets=None)
    with pytest.raises(EventFormatError, match=r"holds builtins\.print, no numbers"):
        open_npz(path)
    assert capsys.readouterr().out == ""


def test_ten_thousand_damaged_npz_are_read_or_refused(tmp_path):
    times, units, offsets = spikes()
    objects = dict(times=split_up(times, offsets), units=split_up(units, offsets), offsets=None)
    raws = [write_npz(tmp_path / f"{k}.npz", **c).read_bytes() for k, c in enumerate(({}, objects))]
    path, refused = tmp_path / "b.npz", 0
    for made in chain(mutants(raws, 5_000), scattered(raws, 5_000)):
        put(path, made)
        try:
            open_npz(path)
        except EventFormatError:
            refused += 1
    assert 8_500 < refused < 10_000, f"{refused} of 10,000 damaged files are refused"


def archives(n: int):
    """`n` archives of arrays, flat ones and those of objects in turn, of which one is damaged and
    has the right checksum all the same, as a wrong program would write it."""
    times, units, offsets = spikes()
    flat = {"times": times, "units": units, "offsets": offsets, "speaker": np.arange(4)}
    objects = {"times": split_up(times, offsets), "units": split_up(units, offsets)}
    made = []
    for arrays in (flat, objects):
        made.append({})
        for name, a in (arrays | {"labels": np.array([0, 1, 1, 0])}).items():
            np.save(held := io.BytesIO(), a)
            made[-1][f"{name}.npy"] = held.getvalue()
    rng = np.random.default_rng(1)
    for i in range(n):
        arrays, hit = made[i % 2], i // 2 % len(made[i % 2])
        with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
            for k, (name, raw) in enumerate(arrays.items()):
                raw = bytearray(raw)
                for at in rng.integers(0, len(raw), rng.integers(1, 4) * (k == hit)):
                    raw[at] = rng.integers(256)
                archive.writestr(zipfile.ZipInfo(name), bytes(raw))
        yield file.getvalue()


def test_ten_thousand_damaged_arrays_with_right_checksums(tmp_path):
    """A zip notices damage by itself; arrays do not."""
    path, refused = tmp_path / "a.npz", 0
    for made in archives(10_000):
        put(path, made)
        try:
            clips = open_npz(path)
            assert clips.source.x.max(initial=0) < 700 and clips.source.t_us.min(initial=0) >= 0
        except EventFormatError:
            refused += 1
    assert 3_000 < refused < 9_500, f"{refused} of 10,000 are refused"


def test_an_archive_that_claims_more_than_it_can_hold_is_refused(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    raw, name = path.read_bytes(), b"times.npy"
    at = raw.rindex(name) - 46 + 24  # the size of this member in the archive's directory
    path.write_bytes(raw[:at] + (2**32 - 2).to_bytes(4, "little") + raw[at + 4 :])
    with pytest.raises(EventFormatError, match=r"times\.npy claims 4294967294 bytes"):
        open_npz(path)


@pytest.mark.parametrize(
    "names", [np.array(["b", "a", "a", "b"]), np.array([b"b", b"a", b"a", b"b"])]
)
def test_labels_and_speakers_may_be_names(tmp_path, names):
    clips = open_npz(write_npz(tmp_path / "a.npz", labels=names, speaker=names))
    assert clips.classes == ["a", "b"] and clips.labels.tolist() == [1, 0, 0, 1]
    assert clips.speakers is not None and clips.speakers.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("name", ["labels", "speaker", "mood"])
def test_numbers_of_classes_may_be_any(tmp_path, name):
    large = np.array([2**33, 5, 2**62, 5])
    arrays = {"labels": np.array([0, 1, 1, 0]), name: large}
    clips = open_npz(write_npz(tmp_path / "a.npz", keys=None, **arrays), Reading(label_key=name))
    assert clips.classes == ["5", str(2**33), str(2**62)] and clips.labels.tolist() == [1, 0, 2, 0]


def open_text(folder, split="train", reading=AS_STORED):
    return open_path(folder, reading)[split]()


def write_text(folder, each=2):
    for k, word in enumerate(("ja", "nein")):
        for i in range(each):
            path = folder / word / f"{i}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{0.1 * (j + 1):.3f} {100 * k + 10 * i + j}" for j in range(4)]
            path.write_text("# seconds unit\n\n" + "\n".join(lines) + "\n")
    return folder


def test_text_is_a_clip_a_file(tmp_path):
    clips = open_text(write_text(tmp_path))
    assert clips.classes == ["ja", "nein"] and clips.labels.tolist() == [0, 0, 1, 1]
    events, label, name = clips[3]
    assert events.t_us.tolist() == [100_000, 200_000, 300_000, 400_000]
    assert events.x.tolist() == [110, 111, 112, 113] and label == 1
    assert name == str(tmp_path / "nein" / "1.txt")
    assert clips.subset(np.array([2])).identity(0) == str(tmp_path / "nein" / "0.txt")


def test_text_in_halves(tmp_path):
    for part in ("train", "test"):
        write_text(tmp_path / part, each=1 if part == "test" else 3)
    (tmp_path / "test" / "nein" / "0.txt").unlink()
    assert [len(open_text(tmp_path, split)) for split in ("train", "test")] == [6, 1]
    assert open_text(tmp_path, "test").classes == ["ja"], "those of training are no others"
    assert [*open_path(tmp_path)] == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.1 3\n0.2\n", "line 2: '0.2': it has too few numbers, expected t unit"),
        ("0.1 3\n\n0.2 x # no\n", "line 3: '0.2 x # no': it is no row of numbers"),
        ("0.1 3 1\n", "line 1: .* too many numbers"),
        ("# t\n0.1 3.5\n", "line 2: .*: its unit is no whole number"),
        ("0.1 99999999999\n", "see --n-units"),
        ("0.1 99999999999999999999\n", "line 1: .* too large"),
        ("seconds neuron no\n", "line 1: it says 'seconds neuron no', expected the names t unit"),
        ("nan 3\n", "line 1: 'nan 3'"),
        ("0.1 7\n\n0.1 700\n", "line 3: a unit lies outside 0..699, see --n-units"),
        ("-0.1 3\n", "line 1: .* negative or not finite"),
    ],
)
def test_a_wrong_line_is_named_or_its_file_left_out(tmp_path, text, words):
    write_text(tmp_path)
    (tmp_path / "ja" / "1.txt").write_text(text)
    with pytest.raises(EventFormatError, match=words) as error:
        open_text(tmp_path)
    assert str(tmp_path / "ja" / "1.txt") in str(error.value)
    assert str(error.value).count("--skip-bad") == 1
    clips = open_text(tmp_path, reading=Reading(skip_bad=True))
    assert [len(clips[i][0]) for i in range(4)] == [4, 0, 4, 4] and clips.why_bad(1)


def test_headers_and_separators_as_in_other_texts(tmp_path):
    for text in ("\ufeff0.5,7\r\n", "Unit;Seconds # of speech\n7;0.5", "% x\n\n5e-1 7"):
        clips = parse_clip(text.encode(), "a.txt", AS_STORED)
        assert (clips.t_us.tolist(), clips.x.tolist()) == ([500_000], [7]), text
    with pytest.raises(EventFormatError, match=r"a\.txt, line 1: .* it is no row of numbers"):
        parse_clip(bytes(range(128, 256)), "a.txt", AS_STORED)


@pytest.mark.parametrize(("unit", "t"), [("s", "0.0125"), ("ms", "12.5"), ("us", "12500.0")])
def test_times_are_in_the_unit_that_is_asked_for(unit, t):
    reading = Reading(unit, "first-event")
    clips = parse_clip(f"{t} 5\n0 3\n".encode(), "a.txt", reading)
    assert clips.t_us.tolist() == [12_500, 0]
    with pytest.raises(EventFormatError, match="whole numbers up to 5000, no seconds"):
        parse_clip(b"5 1\n5000 1\n", "a.txt", reading._replace(time_unit="s"))


def test_ten_thousand_damaged_texts_are_read_or_refused(tmp_path):
    raw, refused = (write_text(tmp_path) / "ja" / "0.txt").read_bytes(), 0
    flipped = mutants([raw, raw.partition(b"\n\n")[2]], 5_000)
    for made in chain(flipped, scattered([raw], 5_000)):
        try:
            clips = parse_clip(made, "a.txt", AS_STORED)
            assert clips.x.max(initial=0) < 700 and clips.t_us.min(initial=0) >= 0
        except EventFormatError:
            refused += 1
    assert 2_000 < refused < 9_900, f"{refused} of 10,000 are refused"
