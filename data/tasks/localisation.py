"""Localisation: from which direction a sound comes, heard by two ears.

12 directions from -82.5 to 82.5 degrees. The sound reaches the ears up to MAX_ITD steps apart, in
proportion to the angle; the sine of a round head would make the classes at the sides harder than
those in front. It consists of one tone for each of PERIODS, with a random phase. Each tone drives
FIBRES fibres per ear, which fire SPIKES spikes, phase-locked: at times drawn from the tone's
brightened half wave, as a Poisson process does whose count is given. So every unit fires as often
in every clip, and only the delay between the ears tells the direction.

Time is scaled up: the ears of a person are 0.7 ms apart, these 20 steps, which the tones, of 11 to
20 Hz at 1 ms per step, are scaled to likewise. Half of every period is longer than the largest
delay, so that no direction is heard as another.

40 units, 200 steps, 1,200 clips for training and 600 for testing, as many of every direction;
chance is 1 in 12, and a guess is 60 degrees off on average. Source: Jeffress 1948 (doi
10.1037/h0061495), coincidence after delays; the stimulus follows Goodman et al. 2022 (Cosyne
tutorial on spiking networks).
"""

import numpy as np

from ..audio.sets import ClipSet
from .clips import SEED, clip_set, draws

NAME = "localisation"
ANGLES = np.arange(12) * 15.0 - 82.5  # degrees
MAX_ITD = 20  # steps at 90 degrees
PERIODS = (50, 61, 75, 92)  # steps
FIBRES, SPIKES, STEPS = 5, 10, 200
SHARPNESS = 4  # exponent of the half wave
CLIPS = {"train": 1200, "test": 600}


def open_localisation(root: str, split: str, download: bool, seed: int = SEED) -> ClipSet:
    """Directions of tones; splits train and test, nothing to download. `seed`: of the clips."""
    rng = draws(NAME, split, seed)
    n, tones = CLIPS[split], len(PERIODS)
    labels = rng.permutation(np.arange(n) % len(ANGLES))
    phase_NF = rng.random((n, tones))
    lag_N = MAX_ITD * ANGLES[labels] / 90  # how much later the right ear hears it
    lag_NE = lag_N[:, None] * np.array([-0.5, 0.5])
    t_T, period_F1 = np.arange(STEPS), np.array(PERIODS)[:, None]
    cycles_NEFT = (t_T - lag_NE[..., None, None]) / period_F1 + phase_NF[:, None, :, None]
    rate_NEFT = ((1 + np.sin(2 * np.pi * cycles_NEFT)) / 2) ** SHARPNESS
    step_NM = _drawn(rng, rate_NEFT, FIBRES * SPIKES).reshape(n, -1)
    unit_M = np.repeat(np.arange(2 * tones * FIBRES), SPIKES)
    return clip_set(NAME, split, step_NM, unit_M, labels, [f"{angle:g}" for angle in ANGLES])


def _drawn(rng: np.random.Generator, rate_KT: np.ndarray, m: int) -> np.ndarray:
    """`m` steps from each density (..., T), int64 (..., m)."""
    total_KT = np.cumsum(rate_KT, axis=-1)
    part_KT = (total_KT / total_KT[..., -1:]).reshape(-1, rate_KT.shape[-1])
    row_K1 = np.arange(len(part_KT))[:, None]  # rows one above the other: one search for all
    wanted_KM = rng.random((len(part_KT), m)) * (1 - 1e-9)
    found = np.searchsorted((part_KT + row_K1).ravel(), wanted_KM + row_K1, side="right")
    return (found - row_K1 * part_KT.shape[1]).reshape(*rate_KT.shape[:-1], m)
