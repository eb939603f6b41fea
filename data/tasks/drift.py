"""Drift: in which direction, and how fast, a scanned digit moves.

16 classes of motion: 8 directions at 2 speeds, SPEEDS pixels per step along each axis. A recording
has STEPS steps of STEP_US. At each of them the digit, one of scikit-learn's, emits EVENTS events
with random polarity at pixels drawn by their brightness, and then moves. The field is a torus and
the first place is anywhere on it, so that every single frame is a digit anywhere, whatever the
class: only what changes from one frame to the next tells the motion. (A real sensor would show the
direction in one frame, by the polarities of the two edges.)

34 x 34 pixels, 800 recordings of as many digits, 50 of every class; chance is 1 in 16.
"""

from functools import partial

import numpy as np

from ..events import Events
from ..seeds import file_seed, generator
from ..vision.sets import RecordingSet

NAME, RECIPE = "drift", 1  # raise this with any change of the events: caches are then made anew
SIZE, RECORDINGS = (34, 34), 800
STEPS, STEP_US, EVENTS = 12, 10_000, 60
SPEEDS = (2, 4)  # pixels per step along each axis
DIRECTIONS = {
    "right": (1, 0), "down right": (1, 1), "down": (0, 1), "down left": (-1, 1),
    "left": (-1, 0), "up left": (-1, -1), "up": (0, -1), "up right": (1, -1),
}  # fmt: skip
CLASSES = [f"{name}, {speed}" for name in DIRECTIONS for speed in SPEEDS]


def open_drift(root: str, download: bool, seed: int = 0) -> RecordingSet:
    """Moving digits, 16 classes of motion, nothing to download. `seed`: of classes and events.
    Identity "digits:<index>", that of the image."""
    order = generator("task", seed, file_seed(NAME), 0, 0)
    labels = order.permutation(np.arange(RECORDINGS) % len(CLASSES))
    identities = [f"digits:{i}" for i in range(RECORDINGS)]
    names = [f"{NAME}-{RECIPE}/{seed}/{i:04d}" for i in range(RECORDINGS)]
    read = partial(drift_recording, labels=labels, seed=seed)
    return RecordingSet(NAME, labels, CLASSES, identities, SIZE, names, read)


def drift_recording(i: int, labels: np.ndarray, seed: int = 0) -> Events:
    """Recording `i` with its motion `labels[i]`: the same events for the same `seed`."""
    from ..vision.scanned_digits import digit_images  # brings numba, so only here

    rng = generator("task", seed, file_seed(NAME), 1, i)
    way, speed = divmod(int(labels[i]), len(SPEEDS))
    dx, dy = SPEEDS[speed] * np.array([*DIRECTIONS.values()][way])
    image_HW = digit_images().image(i)
    H, W = SIZE
    n = STEPS * EVENTS
    pixel = rng.choice(image_HW.size, n, p=image_HW.ravel() / image_HW.sum())
    step, (row, column) = np.repeat(np.arange(STEPS), EVENTS), np.divmod(pixel, image_HW.shape[1])
    x0, y0 = rng.integers(0, W), rng.integers(0, H)
    x, y = (x0 + column + dx * step) % W, (y0 + row + dy * step) % H
    t_us = step * STEP_US + rng.integers(0, STEP_US, n)
    t_us[0], t_us[-1] = 0, STEPS * STEP_US - 1  # so that equal parts of the recording are steps
    return Events(t_us, x.astype(np.int16), y.astype(np.int16), rng.integers(0, 2, n, np.int16))
