"""Augmentation of one clip's events. Every function is small, pure, and draws from `rng` only.

`amounts` says how much of each of AUGMENTATIONS, whose order is the order of use; 0 does nothing.
Unit shift and scale stand for pitch and vocal tract.
Events that leave 0..n_units-1, or go before time 0, are dropped.
"""

from collections.abc import Mapping

import numpy as np

from ...errors import ConfigError, nearest
from ..events import Events


def time_scale(events: Events, scale: float, rng: np.random.Generator, n_units: int) -> Events:
    """Stretches time by a factor from U(1 - scale, 1 + scale)."""
    return _at_times(events, events.t_us * rng.uniform(1 - scale, 1 + scale))


def time_shift(events: Events, shift_ms: float, rng: np.random.Generator, n_units: int) -> Events:
    """Moves the clip in time by U(-shift_ms, shift_ms)."""
    return _at_times(events, events.t_us + 1e3 * rng.uniform(-shift_ms, shift_ms))


def time_jitter(events: Events, std_ms: float, rng: np.random.Generator, n_units: int) -> Events:
    """Moves every event in time by N(0, std_ms)."""
    noise = rng.standard_normal(len(events), np.float32)
    return _at_times(events, events.t_us + 1e3 * std_ms * noise)


def unit_scale(events: Events, scale: float, rng: np.random.Generator, n_units: int) -> Events:
    """Stretches the unit axis about its middle by a factor from U(1 - scale, 1 + scale)."""
    middle = (n_units - 1) / 2
    factor = rng.uniform(1 - scale, 1 + scale)
    return _at_units(events, middle + factor * (events.x - middle), n_units)


def unit_shift(events: Events, shift: float, rng: np.random.Generator, n_units: int) -> Events:
    """Moves the clip along the units by U(-shift, shift)."""
    return _at_units(events, events.x + rng.uniform(-shift, shift), n_units)


def unit_jitter(events: Events, std: float, rng: np.random.Generator, n_units: int) -> Events:
    """Moves every event along the units by N(0, std)."""
    noise = rng.standard_normal(len(events), np.float32)
    return _at_units(events, events.x + std * noise, n_units)


def time_mask(events: Events, longest_ms: float, rng: np.random.Generator, n_units: int) -> Events:
    """Silences a stretch of U(0, longest_ms) that starts anywhere in the clip."""
    start = rng.uniform(0, events.t_us.max())
    end = start + 1e3 * rng.uniform(0, longest_ms)
    return events.select((events.t_us < start) | (events.t_us >= end))


def unit_mask(events: Events, widest: float, rng: np.random.Generator, n_units: int) -> Events:
    """Silences a band of U(0, widest) units that starts anywhere on the axis."""
    start = rng.uniform(0, n_units)
    end = start + rng.uniform(0, widest)
    return events.select((events.x < start) | (events.x >= end))


def drop(events: Events, probability: float, rng: np.random.Generator, n_units: int) -> Events:
    """Drops every event with the given probability."""
    return events.select(rng.random(len(events), np.float32) >= probability)


AUGMENTATIONS = {
    "aug_time_scale": time_scale,
    "aug_time_shift_ms": time_shift,
    "aug_time_jitter_ms": time_jitter,
    "aug_unit_scale": unit_scale,
    "aug_unit_shift": unit_shift,
    "aug_unit_jitter": unit_jitter,
    "aug_time_mask_ms": time_mask,
    "aug_unit_mask": unit_mask,
    "aug_drop": drop,
}


def check_amounts(amounts: Mapping[str, float]) -> None:
    """ConfigError with the nearest name if there is no such augmentation."""
    for name in amounts:
        if name not in AUGMENTATIONS:
            raise ConfigError(f"no augmentation {name!r}: {nearest(name, AUGMENTATIONS)}")


def augment(
    events: Events, amounts: Mapping[str, float], rng: np.random.Generator, n_units: int
) -> Events:
    """Events after every augmentation whose amount is not 0 (units and meaning: the functions
    above); the original events if none would be left. `amounts`: name in AUGMENTATIONS -> amount,
    those that are missing are 0. `n_units`: length of the axis."""
    result = events
    for name, function in AUGMENTATIONS.items():
        amount = amounts.get(name, 0)
        if amount and len(result):
            result = function(result, amount, rng, n_units)
    return result if len(result) else events


def blend(first: Events, second: Events, rng: np.random.Generator) -> Events:
    """Mixes two clips of one class: `second` is moved so that the mean event times agree, then
    every event of both is kept with probability 1/2; `first` if none would be left."""
    moved = _at_times(second, second.t_us + (first.t_us.mean() - second.t_us.mean()))
    t_us = np.concatenate([first.t_us, moved.t_us])
    x = np.concatenate([first.x, moved.x])
    keep = rng.random(len(t_us), np.float32) < 0.5
    return Events(t_us[keep], x[keep]) if keep.any() else first


def _at_times(events: Events, t_us: np.ndarray) -> Events:
    """Events at new times (float (n,), rounded here), without those before time 0."""
    t = np.rint(t_us).astype(np.int64)
    moved, keep = Events(t, events.x, events.y, events.p), t >= 0
    return moved if keep.all() else moved.select(keep)


def _at_units(events: Events, x: np.ndarray, n_units: int) -> Events:
    """Events at new units (float (n,), rounded here), without those off the axis."""
    unit = np.rint(x).astype(np.int64)
    moved, keep = Events(events.t_us, unit, events.y, events.p), (unit >= 0) & (unit < n_units)
    return moved if keep.all() else moved.select(keep)
