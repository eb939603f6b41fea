"""Augmentation of a batch against a loop over clips and events, which draws the same numbers."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from snndelay.data import seeds
from snndelay.data.audio import augment as aug
from snndelay.data.audio.flat import Flat, compact, flat, pieces
from snndelay.data.events import Events
from snndelay.errors import ConfigError
from snndelay.kernels.philox import words
from snndelay.runs.input_settings import AudioAugmentation

STRONG = dict(
    **dict(aug_time_shift_ms=80.0, aug_unit_shift=60.0, aug_unit_scale=0.3, aug_time_scale=0.3),
    **dict(aug_unit_jitter=8.0, aug_time_jitter_ms=8.0, aug_drop=0.3),
    **dict(aug_time_mask_ms=200.0, aug_unit_mask=100.0, aug_reverse=0.95, aug_noise=0.3),
)
SEED, EPOCH = 2**63 + 5, 3


def clip(n: int = 400, seed: int = 1) -> Events:
    rng = np.random.default_rng(seed)
    return Events(np.sort(rng.integers(0, 500_000, n)), rng.integers(0, 700, n).astype(np.uint16))


def run(events: Events, seed: int = 0, **amounts) -> Events:
    return aug.augment_clip(events, amounts, 700, seed=seed)


def batch(clips: dict[int, Events], index_B, partner_B=None, cut_B=None) -> Flat:
    """Those of a set's clips, mixed with their partners."""
    arrays = (None if part is None else np.array(part) for part in (partner_B, cut_B))
    made = pieces(np.array(index_B), *arrays)
    read = [clips[int(i)] for i in made.place_S]
    t_us, x = (np.concatenate([getattr(e, part) for e in read]) for part in ("t_us", "x"))
    size, total = np.array([[len(e), e.t_us.sum()] for e in read]).T
    return flat(*compact(t_us, x, 700), made, size, total)


def augmented(clips, index_B, amounts, partner_B=None, cut_B=None) -> list[list[tuple[int, int]]]:
    """(time, unit) of the events of each clip after augmentation."""
    u_KB = torch.from_numpy(aug.clip_draws(SEED, EPOCH, max(clips) + 1)[:, index_B])
    got = aug.augment(batch(clips, index_B, partner_B, cut_B), amounts, u_KB, 700, SEED, EPOCH)
    alive = torch.ones(len(got.t_us), dtype=torch.bool) if got.alive is None else got.alive
    rows = zip(got.clip.tolist(), got.t_us.tolist(), got.unit.tolist(), alive.tolist(), strict=True)
    found = [[] for _ in index_B]
    for b, t, x, lives in rows:
        if lives:
            found[b].append((t, x))
    return found


# -- the definition again: one clip, one event at a time, plain Python ---


class Event(NamedTuple):
    t: int
    x: int
    words: list[int]
    first: bool = True
    noise: tuple[int, ...] | list[int] = ()


def drawn_by(i: int, n: int, stream: str = "augment_spike") -> list[list[int]]:
    at = seeds.counter(stream, SEED, EPOCH)
    zero = torch.zeros(n, dtype=torch.int64)
    made = words(torch.tensor(at.seed), torch.arange(n), zero + i, zero + EPOCH, zero + at.stream)
    return torch.stack(made, 1).tolist()


def normal(word: int) -> float:
    return float(torch.special.ndtri(torch.tensor((word % 2**16 + 0.5) / 2**16).double()))


def by_hand(
    first: Events, i: int, amounts, second: Events | None = None, cut: bool = False
) -> list[tuple[int, int]]:
    u = dict(zip(aug.DRAWS, aug.clip_draws(SEED, EPOCH, i + 1)[:, i].tolist(), strict=True))
    rows = [(int(t), int(x), True) for t, x in zip(first.t_us, first.x, strict=True)]
    if second is not None:
        move = 0 if cut else np.rint(first.t_us.mean() - second.t_us.mean())
        rows += [(int(t + move), int(x), False) for t, x in zip(second.t_us, second.x, strict=True)]
    drawn = zip(rows, drawn_by(i, len(rows)), drawn_by(i, len(rows), "augment_noise"), strict=True)
    events = [Event(t, x, w, f, other) for (t, x, f), w, other in drawn]
    if cut:
        last = max(e.t for e in events) + 1
        start = u["cut_start"] * (last - u["cut_length"] * last)
        end = start + u["cut_length"] * last
        kept = [e for e in events if (start <= e.t < end) != e.first]
        events = kept or [e for e in events if e.first]
    elif second is not None:
        kept = [e for e in events if e.words[3] < 2**31 and e.t >= 0]
        events = kept or [e for e in events if e.first]
    before = events

    def a(name):
        return amounts.get(name, 0)

    def moved(change, axis, inside):
        new = [e._replace(**{axis: change(e)}) for e in events]
        return [e for e in new if inside(getattr(e, axis))]

    if u["reverse"] < a("aug_reverse"):
        end = max(e.t for e in events)
        events = [e._replace(t=end - e.t) for e in events]
    either = {name: 2 * value - 1 for name, value in u.items()}
    wider = 1 + either["unit_scale"] * a("aug_unit_scale")
    for name, axis, change in (
        ("aug_time_scale", "t", lambda e: round(e.t * (1 + either["time_scale"] * amount))),
        ("aug_time_shift_ms", "t", lambda e: e.t + round(either["time_shift"] * 1e3 * amount)),
        ("aug_time_jitter_ms", "t", lambda e: e.t + round(1e3 * amount * normal(e.words[0]))),
        ("aug_unit_scale", "x", lambda e: round(349.5 + (e.x - 349.5) * wider)),
        ("aug_unit_shift", "x", lambda e: e.x + round(either["unit_shift"] * amount)),
        ("aug_unit_jitter", "x", lambda e: e.x + round(amount * normal(e.words[1]))),
    ):  # fmt: skip
        if amount := a(name):
            inside = (lambda t: t >= 0) if axis == "t" else (lambda x: 0 <= x < 700)
            events = moved(change, axis, inside)
    if a("aug_time_mask_ms") and events:
        start = u["time_mask_start"] * max(e.t for e in events)
        end = start + u["time_mask_length"] * 1e3 * a("aug_time_mask_ms")
        events = [e for e in events if not start <= e.t < end]
    if a("aug_unit_mask"):
        start = u["unit_mask_start"] * 700
        end = start + u["unit_mask_width"] * a("aug_unit_mask")
        events = [e for e in events if not start <= e.x < end]
    if a("aug_noise") and events:
        end, of = max(e.t for e in events) + 1, 2**31
        events = [
            e._replace(t=e.noise[1] % of * end // of, x=e.noise[2] % of * 700 // of)
            if e.noise[0] % of < a("aug_noise") * of
            else e
            for e in events
        ]
    if a("aug_drop"):
        events = [e for e in events if (e.words[2] % 2**31) / 2**31 >= a("aug_drop")]
    return [(e.t, e.x) for e in events or before]


CLIPS = {3: clip(90, 1), 7: clip(1, 2), 20: clip(150, 3), 11: clip(200, 4)}


@pytest.mark.parametrize("field", [*STRONG, "all", "nearly empty"])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_augmentation_against_a_loop(field, mixed):
    amounts = {"all": STRONG, "nearly empty": {"aug_unit_shift": 2000.0, "aug_drop": 0.9}}.get(
        field, {field: STRONG.get(field)}
    )
    index, partner = [3, 7, 20, 11], [11, -1, 3, 11] if mixed else None
    got = augmented(CLIPS, index, amounts, partner)
    for b, i in enumerate(index):
        other = CLIPS[partner[b]] if partner and partner[b] >= 0 else None
        want = by_hand(CLIPS[i], i, amounts, other)
        assert got[b] == want, f"clip {i}: {len(got[b])} events, {len(want)} by hand"


@pytest.mark.parametrize("amounts", [{}, STRONG], ids=["alone", "all"])
def test_a_stretch_of_another_clip_against_a_loop(amounts):
    index, partner, cut = [3, 7, 20, 11, 3], [11, 20, 3, -1, 7], [True, True, False, False, True]
    got = augmented(CLIPS, index, amounts, partner, cut)
    for b, i in enumerate(index):
        other = CLIPS[partner[b]] if partner[b] >= 0 else None
        want = by_hand(CLIPS[i], i, amounts, other, cut[b])
        assert got[b] == want, f"clip {i}: {len(got[b])} events, {len(want)} by hand"


def test_the_share_of_a_label_is_that_of_its_events():
    index, partner, cut = [3, 7, 20, 11], [11, 20, 3, -1], [True, True, False, False]
    u_KB = torch.from_numpy(aug.clip_draws(SEED, EPOCH, 21)[:, index])
    got = aug.augment(batch(CLIPS, index, partner, cut), {}, u_KB, 700, SEED, EPOCH)
    assert got.share is not None and got.part is not None and got.alive is not None
    for b in range(4):
        mine = (got.clip == b) & got.alive
        want = int((mine & (got.part == 4)).sum()) / int(mine.sum())
        assert got.share[b] == want and (want > 0 or b >= 1), f"clip {index[b]}: {want}"


def test_partners_of_a_cut_are_of_any_label_and_as_many_as_asked():
    u_KN = aug.clip_draws(3, 1, 4000)
    found = aug.cut_partners(0.25, u_KN)
    assert abs((found >= 0).mean() - 0.25) < 0.03
    assert found.max() < 4000 and len(np.unique(found)) > 800
    assert (aug.cut_partners(0.0, u_KN) == -1).all()


def test_reversed_time_spans_the_same_and_noise_fills_the_clip():
    events = clip(5000)
    back = run(events, aug_reverse=1.0)
    assert np.array_equal(np.sort(back.t_us), np.sort(events.t_us.max() - events.t_us))
    noisy = run(Events(np.arange(4000, dtype=np.int64), np.full(4000, 7)), aug_noise=0.5)
    assert abs((noisy.x != 7).mean() - 0.5) < 0.04, "not half of the events moved"
    strayed = noisy.x[noisy.x != 7]
    assert abs(strayed.mean() - 349.5) < 20 and abs(strayed.std() - 202) < 10


def test_the_table_has_every_option():
    assert set(aug.ABOUT) == set(AudioAugmentation.__dataclass_fields__)
    assert [*aug.ABOUT][2:] == [*aug.AUGMENTATIONS], "not in the order of use"


def test_off_is_the_identity():
    events = clip()
    for amounts in ({}, dict.fromkeys(STRONG, 0)):
        got = run(events, **amounts)
        assert np.array_equal(got.t_us, events.t_us) and np.array_equal(got.x, events.x)


def test_a_name_that_is_none_is_refused_with_the_nearest():
    aug.check_amounts(STRONG)
    with pytest.raises(ConfigError, match="did you mean aug_drop"):
        aug.check_amounts({"aug_dorp": 0.1})


def test_every_field_has_its_function():
    assert set(aug.AUGMENTATIONS) == set(STRONG), "this test must cover every augmentation"


@pytest.mark.parametrize("field", [*STRONG, None])
def test_valid_deterministic_and_effective(field):
    amounts = STRONG if field is None else {field: STRONG[field]}
    events, changed = clip(), 0
    for seed in range(20):
        one, two = run(events, seed, **amounts), run(events, seed, **amounts)
        one.validate(700)
        assert np.array_equal(one.t_us, two.t_us), f"{field} is not a function of the seed"
        assert np.array_equal(one.x, two.x), f"{field} is not a function of the seed"
        changed += not (np.array_equal(one.t_us, events.t_us) and np.array_equal(one.x, events.x))
    assert changed >= 18, f"{field} changed only {changed} of 20 clips"


def test_other_amounts_keep_what_is_drawn():
    """A shift stays the same whatever else is on."""
    alone = augmented({0: clip()}, [0], {"aug_time_shift_ms": 80.0})[0]
    both = augmented({0: clip()}, [0], {"aug_time_shift_ms": 80.0, "aug_drop": 0.3})[0]
    assert 0 < len(both) < len(alone) and set(both) <= set(alone)


def test_jitter_is_normal_with_its_deviation():
    n = 20_000
    events = Events(np.full(n, 10**6), np.full(n, 350))
    got = run(events, aug_time_jitter_ms=20, aug_unit_jitter=10)
    for name, moved, std in (("time", got.t_us - 10**6, 20_000), ("unit", got.x - 350, 10)):
        z = np.sort(moved / std)
        assert abs(z.mean()) < 4 / math.sqrt(n), f"{name}: mean {z.mean()}"
        assert abs(z.std() - 1) < 0.03, f"{name}: deviation {z.std()}"
        part = (abs(z) < 1.0001 + 0.5 / std).mean()
        assert abs(part - 0.6827) < 0.04, f"{name}: {part} within one deviation"
    assert abs(np.corrcoef(got.t_us, got.x)[0, 1]) < 4 / math.sqrt(n), "time and unit go together"


def test_drop_keeps_the_expected_part():
    left = len(run(clip(20_000), aug_drop=0.3)) / 20_000
    assert abs(left - 0.7) < 0.02, f"{left} of the events left, 0.7 expected"


def test_empty_result_falls_back_to_the_original():
    events = clip(3)
    got = run(events, aug_drop=1.0, aug_time_shift_ms=50)
    assert np.array_equal(got.t_us, events.t_us) and np.array_equal(got.x, events.x)


def test_blend_takes_half_of_both_around_one_centre():
    first, second = clip(4000, 1), clip(6000, 2)
    late = Events(second.t_us + 300_000, second.x)
    (got,) = augmented({0: first, 1: late}, [0], {}, [1])
    assert abs(len(got) - 5000) < 200, f"{len(got)} events, 5000 expected"
    mean = np.mean([t for t, _ in got])
    assert abs(mean - first.t_us.mean()) < 5_000, "centres of mass differ"


@pytest.mark.parametrize("amounts", [{}, {"aug_drop": 0.6}], ids=["mix", "mix and drop"])
def test_a_blend_that_would_be_empty_is_the_first_clip(amounts):
    clips = {i: Events(np.array([5 + i]), np.array([i])) for i in range(40)}
    index, partner = list(range(40)), list(range(39, -1, -1))
    got = augmented(clips, index, amounts, partner)
    want = [by_hand(clips[i], i, amounts, clips[k]) for i, k in zip(index, partner, strict=True)]
    assert got == want
    assert {len(events) for events in got} == {1, 2}, "a blend must never be empty"


def test_partners_are_of_the_class_and_as_likely():
    labels = np.repeat([4, 0, 4, 2], 500)
    u_KN = aug.clip_draws(1, 0, 2000)
    assert (aug.partners(labels, 0.0, u_KN) == -1).all()
    found = aug.partners(labels, 0.5, u_KN)
    mixed = found >= 0
    assert abs(mixed.mean() - 0.5) < 0.05
    assert np.array_equal(labels[found[mixed]], labels[mixed]), "another class is mixed in"
    every = aug.partners(labels, 1.0, u_KN)
    assert np.array_equal(every[mixed], found[mixed]), "partners depend on how many mix"
    halves = (every[labels == 4] < 500).mean()
    assert abs(halves - 0.5) < 0.07, f"{halves} of the partners lie in the first half of the class"


def test_times_beyond_31_bits_stay_exact():
    events = Events(np.array([0, 2**33 + 1, 2**33 + 3]), np.array([1, 2, 3]))
    got = run(events, aug_time_shift_ms=10, seed=2)
    assert np.ptp(np.diff(got.t_us)[-1:]) == 0 and np.diff(got.t_us)[-1] == 2
