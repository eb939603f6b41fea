"""The settings of what changes events: filters, and augmentation of either wing; `settings.py` says
how such lines are read."""
# ruff: noqa: E501 (a setting stands on one line, however long, so that the file reads as a table)
# fmt: off

from dataclasses import dataclass

from .fields import MANY, Component, setting


@dataclass(frozen=True)
class EventFilters(Component):
    """What is taken from the events of recordings before they become frames; how many are, the run says."""

    hot_pixels: float | None = setting(None, "silence pixels with more than so many times the median events of the pixels that have any; null: none", 1, 1e9)
    noise_ms: float | None = setting(None, "drop events without one of the 8 pixels around in so many milliseconds before (background activity); null: none", 0.001, 10_000)
    shrink: int = setting(1, "join so many x so many pixels into one, and keep all events", 1, 1000)
    thin_ms: float | None = setting(None, "keep one event of each pixel and polarity in every so many milliseconds; null: all", 0.001, 10_000)


@dataclass(frozen=True)
class AudioAugmentation(Component):
    """Random changes of training clips."""

    aug_time_shift_ms: float = setting(0.0, "largest shift in time, either way, in milliseconds", 0, 10_000)
    aug_unit_shift: float = setting(0.0, "largest shift along the input units, either way, in units", 0, 100_000)
    aug_unit_scale: float = setting(0.0, "largest relative stretch of the unit axis, 0.1 for 10 percent", 0, 0.9)
    aug_time_scale: float = setting(0.0, "largest relative stretch of time, 0.1 for 10 percent", 0, 0.9)
    aug_unit_jitter: float = setting(0.0, "standard deviation of each event's unit, in units", 0, 100_000)
    aug_time_jitter_ms: float = setting(0.0, "standard deviation of each event's time, in milliseconds", 0, 10_000)
    aug_drop: float = setting(0.0, "probability that an event is dropped", 0, 0.99)
    aug_time_mask_ms: float = setting(0.0, "longest stretch of time that is silenced, in milliseconds", 0, 10_000)
    aug_unit_mask: float = setting(0.0, "widest band of units that is silenced, in units", 0, 100_000)
    aug_mix: float = setting(0.0, "probability that a clip becomes a blend of two clips of its class", 0, 1)
    aug_cutmix: float = setting(0.0, "probability that a clip gets a stretch of another in place of its own, and the label of both, by their events (CutMix)", 0, 1)
    aug_reverse: float = setting(0.0, "probability that a clip is played backwards", 0, 1)
    aug_noise: float = setting(0.0, "probability with which each event moves to a random time and unit", 0, 0.99)


@dataclass(frozen=True)
class VisionAugmentation(Component):
    """Random changes of training recordings."""

    aug_crop: int = setting(0, "largest shift of the frames, in pixels, either way", 0, 1000)
    aug_flip: float = setting(0.0, "probability that frames are mirrored left to right", 0, 1)
    aug_rotate: float = setting(0.0, "largest rotation of the frames, in degrees, either way", 0, 180)
    aug_time_shift: int = setting(0, "largest shift in time, in steps, either way", 0, MANY)
    aug_polarity: float = setting(0.0, "probability that the polarities are swapped", 0, 1)
    aug_cutout: int = setting(0, "longest side of a square that is silenced, in pixels", 0, 4096)
    aug_time_mask: int = setting(0, "most steps in a row that are silenced", 0, MANY)
    aug_drop: float = setting(0.0, "probability with which each pixel of a step loses its events", 0, 0.99)
    aug_noise: float = setting(0.0, "probability with which each pixel of a step gets one event more", 0, 0.99)
    aug_one: bool = setting(False, "give each recording one of the augmentations that are on, or none, drawn anew in every epoch")
