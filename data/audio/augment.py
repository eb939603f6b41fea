"""Augmentation of the events of a batch, of all its clips at once and on any device.

`amounts` says how much of each of AUGMENTATIONS, whose order is the order of use; 0 does nothing.
Mixing with another clip comes before: ABOUT has both and says where each comes from.
Unit shift and scale stand for pitch and vocal tract.
Events that leave 0..n_units-1, or go before time 0, are dropped.

What is drawn is a function of seed, epoch and clip, and the same whatever the amounts. The bits are
the same on every device: there are only integers here, and single products and sums in float64,
which round alike everywhere; a normal number is one of 65,536 quantiles from a table that the host
makes.

Legend: n events, B clips of a batch, N clips of a set, K numbers that a clip draws.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, nearest
from ...kernels import event_words, latest
from ..augmentation import Augmentation
from ..events import Events
from ..placing import moved
from ..seeds import counter, uniforms
from .flat import Flat, compact, flat, pieces

# what a clip draws, each from U(0, 1)
DRAWS = (
    *("mix", "partner", "time_scale", "time_shift", "unit_scale", "unit_shift"),
    *("time_mask_start", "time_mask_length", "unit_mask_start", "unit_mask_width"),
    *("reverse", "cut", "cut_partner", "cut_start", "cut_length"),
)
TIME_JITTER, UNIT_JITTER, DROP, BLEND = range(4)  # the words of one block, which an event draws
NOISE, NOISE_TIME, NOISE_UNIT = range(3)  # those of another, of a stream of its own


class Drawn(NamedTuple):
    """What a batch draws: `u_KB` float64, in the order of DRAWS, and `words_4n`, the bits of random
    words, int32; None where no event draws. `n_units`: length of the unit axis. `noise_4n`: as
    `words_4n`, of the stream for noise."""

    u_KB: Tensor
    words_4n: Tensor | None
    n_units: int
    noise_4n: Tensor | None = None

    def uniform(self, name: str) -> Tensor:
        """(B,) from U(0, 1)."""
        return self.u_KB[DRAWS.index(name)]

    def either(self, name: str) -> Tensor:
        """(B,) from U(-1, 1)."""
        return self.uniform(name) * 2 - 1

    def word(self, which: int) -> Tensor:
        """(n,) int32."""
        assert self.words_4n is not None
        return self.words_4n[which]


def reverse(events: Flat, probability: float, drawn: Drawn) -> Flat:
    """Plays the clip backwards, so that its last event comes at time 0, with a probability."""
    last_B = latest(events.t_us, events.clip, events.begin, events.alive)
    last_n = last_B.to(events.t_us.dtype).index_select(0, events.clip)
    turned_n = (drawn.uniform("reverse") < probability).index_select(0, events.clip)
    return events._replace(t_us=torch.where(turned_n, last_n - events.t_us, events.t_us))


def time_scale(events: Flat, scale: float, drawn: Drawn) -> Flat:
    """Stretches time by a factor from U(1 - scale, 1 + scale)."""
    factor_B = drawn.either("time_scale") * scale + 1
    t = events.t_us * factor_B.index_select(0, events.clip)
    return _at_times(events, t.round_().to(events.t_us.dtype))


def time_shift(events: Flat, shift_ms: float, drawn: Drawn) -> Flat:
    """Moves the clip in time by U(-shift_ms, shift_ms)."""
    shift_B = (drawn.either("time_shift") * (1e3 * shift_ms)).round().to(events.t_us.dtype)
    return _at_times(events, events.t_us + shift_B.index_select(0, events.clip))


def time_jitter(events: Flat, std_ms: float, drawn: Drawn) -> Flat:
    """Moves every event in time by N(0, std_ms)."""
    return _at_times(events, events.t_us + _normal(drawn.word(TIME_JITTER), 1e3 * std_ms))


def unit_scale(events: Flat, scale: float, drawn: Drawn) -> Flat:
    """Stretches the unit axis about its middle by a factor from U(1 - scale, 1 + scale)."""
    n_units, middle = drawn.n_units, (drawn.n_units - 1) / 2
    factor_B1 = (drawn.either("unit_scale") * scale + 1)[:, None]
    # a clip has more events than units, so where each unit goes is a table; no unit was off the
    # axis before, since what moves units comes after
    unit_U = torch.arange(n_units, dtype=torch.float64, device=factor_B1.device)
    new_BU = ((unit_U - middle) * factor_B1 + middle).round_().int()
    place_n = events.clip * n_units + events.unit
    return _at_units(events, new_BU.flatten().index_select(0, place_n), n_units)


def unit_shift(events: Flat, shift: float, drawn: Drawn) -> Flat:
    """Moves the clip along the units by U(-shift, shift)."""
    shift_B = (drawn.either("unit_shift") * shift).round().int()
    unit = events.unit + shift_B.index_select(0, events.clip)
    return _at_units(events, unit, drawn.n_units)


def unit_jitter(events: Flat, std: float, drawn: Drawn) -> Flat:
    """Moves every event along the units by N(0, std)."""
    unit = events.unit + _normal(drawn.word(UNIT_JITTER), std)
    return _at_units(events, unit, drawn.n_units)


def time_mask(events: Flat, longest_ms: float, drawn: Drawn) -> Flat:
    """Silences a stretch of U(0, longest_ms) that starts anywhere in the clip."""
    last_B = latest(events.t_us, events.clip, events.begin, events.alive)
    start_B = drawn.uniform("time_mask_start") * last_B
    end_B = start_B + drawn.uniform("time_mask_length") * (1e3 * longest_ms)
    return events.only(_outside(events.t_us, start_B, end_B, events.clip))


def unit_mask(events: Flat, widest: float, drawn: Drawn) -> Flat:
    """Silences a band of U(0, widest) units that starts anywhere on the axis."""
    start_B = drawn.uniform("unit_mask_start") * drawn.n_units
    end_B = start_B + drawn.uniform("unit_mask_width") * widest
    return events.only(_outside(events.unit, start_B, end_B, events.clip))


def drop(events: Flat, probability: float, drawn: Drawn) -> Flat:
    """Drops every event with the given probability."""
    last = round(probability * 2**31) - 1  # of the words of 31 bits that drop
    return events.only((drawn.word(DROP) & 0x7FFFFFFF) > last)


def noise(events: Flat, probability: float, drawn: Drawn) -> Flat:
    """Puts every event at a random time of the clip and a random unit with a probability."""
    assert drawn.noise_4n is not None
    word_4n, t, unit = drawn.noise_4n & 0x7FFFFFFF, events.t_us, events.unit
    last_B = latest(t, events.clip, events.begin, events.alive)
    last_n = last_B.long().index_select(0, events.clip)
    to_t = (word_4n[NOISE_TIME] * (last_n + 1)) >> 31
    to_unit = (word_4n[NOISE_UNIT].long() * drawn.n_units) >> 31
    moved_n = word_4n[NOISE] < round(probability * 2**31)
    t = torch.where(moved_n, to_t.to(t.dtype), t)
    return events._replace(t_us=t, unit=torch.where(moved_n, to_unit.to(unit.dtype), unit))


AUGMENTATIONS = {
    "aug_reverse": reverse,
    "aug_time_scale": time_scale,
    "aug_time_shift_ms": time_shift,
    "aug_time_jitter_ms": time_jitter,
    "aug_unit_scale": unit_scale,
    "aug_unit_shift": unit_shift,
    "aug_unit_jitter": unit_jitter,
    "aug_time_mask_ms": time_mask,
    "aug_unit_mask": unit_mask,
    "aug_noise": noise,
    "aug_drop": drop,
}
_SHIFT, _MASK = "Nowotny et al. 2022 (arXiv 2212.01232)", "SpecAugment (arXiv 1904.08779)"
ABOUT = {  # option -> row, in the order of use
    "aug_mix": Augmentation("blends two clips of a class with probability a", _SHIFT),
    "aug_cutmix": Augmentation(
        "puts a stretch of another clip in place of its own with probability a; the label becomes "
        "that of both, by their events",
        "CutMix (arXiv 1905.04899); for spikes Schöne et al. 2024 (arXiv 2404.18508)",
    ),
    "aug_reverse": Augmentation("plays backwards with probability a", "tonic TimeReversal"),
    "aug_time_scale": Augmentation("stretches time by U(1 - a, 1 + a)", _SHIFT),
    "aug_time_shift_ms": Augmentation("shifts in time by U(-a, a) ms", "ours"),
    "aug_time_jitter_ms": Augmentation("moves each event by N(0, a) ms", "tonic TimeJitter"),
    "aug_unit_scale": Augmentation("stretches the unit axis by U(1 - a, 1 + a)", "ours"),
    "aug_unit_shift": Augmentation("shifts along the units by U(-a, a)", _SHIFT),
    "aug_unit_jitter": Augmentation("moves each event by N(0, a) units", "tonic SpatialJitter"),
    "aug_time_mask_ms": Augmentation("silences U(0, a) ms", _MASK),
    "aug_unit_mask": Augmentation("silences a band of U(0, a) units", _MASK),
    "aug_noise": Augmentation("puts each event anywhere with probability a", "tonic UniformNoise"),
    "aug_drop": Augmentation("drops each event with probability a", "tonic DropEvent"),
}
OF_EVENTS = ("aug_time_jitter_ms", "aug_unit_jitter", "aug_drop")  # every event draws


def check_amounts(amounts: Mapping[str, float]) -> None:
    """ConfigError with the nearest name if there is no such augmentation."""
    for name in amounts:
        if name not in AUGMENTATIONS:
            raise ConfigError(f"no augmentation {name!r}: {nearest(name, AUGMENTATIONS)}")


def clip_draws(seed: int, epoch: int, n_clips: int) -> np.ndarray:
    """What the clips of a set draw in an epoch, float64 (K, N)."""
    u_NK = uniforms("augment_audio", seed, epoch, np.arange(n_clips), len(DRAWS))
    return np.ascontiguousarray(u_NK.T)


def partners(labels: np.ndarray, mix: float, u_KN: np.ndarray) -> np.ndarray:
    """The clip of the same label that each is mixed with, with probability `mix`; else -1. int64
    (N,). `u_KN`: what the clips draw."""
    u_mix, u_partner = (u_KN[DRAWS.index(name)] for name in ("mix", "partner"))
    by_label = labels.argsort(kind="stable")
    _, label, count = np.unique(labels, return_inverse=True, return_counts=True)
    first = np.cumsum(count) - count
    chosen = by_label[first[label] + (u_partner * count[label]).astype(np.int64)]
    return np.where(u_mix < mix, chosen, -1)


def cut_partners(cutmix: float, u_KN: np.ndarray) -> np.ndarray:
    """The clip, of any label, of which each gets a stretch, with probability `cutmix`; else -1.
    int64 (N,). `u_KN`: what the clips draw."""
    u_cut, u_partner = (u_KN[DRAWS.index(name)] for name in ("cut", "cut_partner"))
    return np.where(u_cut < cutmix, (u_partner * u_KN.shape[1]).astype(np.int64), -1)


def augment(
    events: Flat,
    amounts: Mapping[str, float],
    u_KB: Tensor,
    n_units: int,
    seed: int,
    epoch: int,
) -> Flat:
    """Events after mixing and every augmentation whose amount is not 0 (units and meaning: the
    functions above); of a clip that would have none left, its events before augmentation.

    `amounts`: name in AUGMENTATIONS -> amount, those that are missing are 0. `u_KB`: what the clips
    draw, on the device of the events; seed and epoch say what their events draw.
    """
    words_4n = None
    if events.part is not None or any(amounts.get(name) for name in OF_EVENTS):
        at = counter("augment_spike", seed, epoch)
        words_4n = event_words(events.clip, events.begin, events.index, at.seed, epoch, at.stream)
    noise_4n = None
    if amounts.get("aug_noise"):
        at = counter("augment_noise", seed, epoch)
        noise_4n = event_words(events.clip, events.begin, events.index, at.seed, epoch, at.stream)
    drawn = Drawn(u_KB, words_4n, n_units, noise_4n)
    before = events if events.part is None else cut(blend(events, drawn), drawn)
    events = before
    for name, function in AUGMENTATIONS.items():
        if amount := amounts.get(name):
            events = function(events, amount, drawn)
    return _never_empty(events, before)


def augment_clip(
    events: Events,
    amounts: Mapping[str, float],
    n_units: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
) -> Events:
    """One clip's events, at least one, after what `augment` does to clip `index` of a set."""
    one, size = np.array([index]), np.array([len(events)])
    clip = flat(*compact(events.t_us, events.x, n_units), pieces(one, None), size, size)
    u_K1 = torch.from_numpy(uniforms("augment_audio", seed, epoch, one, len(DRAWS)).T)
    made = augment(clip, amounts, u_K1, n_units, seed, epoch)
    alive = slice(None) if made.alive is None else made.alive
    return Events(made.t_us[alive].long().numpy(), made.unit[alive].int().numpy())


def blend(events: Flat, drawn: Drawn) -> Flat:
    """Keeps every event of both clips of a mix with probability 1/2; those of the first if none
    would be left."""
    assert events.part is not None
    keep = (drawn.word(BLEND) >= 0) & (events.t_us >= 0)
    alone = (events.part == 0) | (events.part > 2)
    return _never_empty(events.only(alone | keep), events.only(alone | (events.part == 1)))


def cut(events: Flat, drawn: Drawn) -> Flat:
    """Of both clips of a cut, the first outside a stretch of U(0, 1) of the longer one, and the
    second inside; the first whole if no event would be left. With the `share` of each label."""
    assert events.part is not None
    first, second = events.part == 3, events.part == 4
    last_B = latest(events.t_us, events.clip, events.begin, events.alive)
    length_B = drawn.uniform("cut_length") * (last_B + 1)
    start_B = drawn.uniform("cut_start") * ((last_B + 1) - length_B)
    outside = _outside(events.t_us, start_B, start_B + length_B, events.clip)
    keep = (events.part < 3) | (first & outside) | (second & ~outside)
    made = _never_empty(events.only(keep), events.only(~second))
    alive = torch.ones_like(second) if made.alive is None else made.alive
    both = torch.stack([alive & second, alive]).long()
    of_2B = both.new_zeros(2, len(events.begin)).index_add_(1, events.clip, both)
    return made._replace(share=of_2B[0].double() / of_2B[1])


def _never_empty(events: Flat, before: Flat) -> Flat:
    """`events`, and those of `before` of clips that have none left."""
    if events.alive is None or events is before:
        return events
    lost_B = latest(events.t_us, events.clip, events.begin, events.alive) < 0
    if lost_B.device.type == "cpu" and not lost_B.any():  # a GPU would have to be waited for
        return events
    lost = lost_B.index_select(0, events.clip)
    alive = torch.ones_like(lost) if before.alive is None else before.alive
    return events._replace(
        t_us=torch.where(lost, before.t_us, events.t_us),
        unit=torch.where(lost, before.unit, events.unit),
        alive=torch.where(lost, alive, events.alive),
    )


def _at_times(events: Flat, t_us: Tensor) -> Flat:
    """Events at new times (n,), without those before time 0."""
    return events._replace(t_us=t_us).only(t_us >= 0)


def _at_units(events: Flat, unit: Tensor, n_units: int) -> Flat:
    """Events at new units (n,), without those off the axis."""
    return events._replace(unit=unit).only((unit >= 0) & (unit < n_units))


def _outside(a_n: Tensor, start_B: Tensor, end_B: Tensor, clip_n: Tensor) -> Tensor:
    """Which integers are not in [start, end) of their clip."""
    start, end = (edge.ceil().long().index_select(0, clip_n) for edge in (start_B, end_B))
    return (a_n < start) | (a_n >= end)


def _normal(word_n: Tensor, std: float) -> Tensor:
    """Whole numbers from N(0, std), (n,) int32, by the lower 16 bits of words."""
    return _quantiles(std, word_n.device).index_select(0, word_n & 0xFFFF)


@lru_cache(maxsize=8)
def _quantiles(std: float, device: torch.device) -> Tensor:
    middle = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    return moved(torch.special.ndtri(middle).mul_(std).round_().int(), device)
