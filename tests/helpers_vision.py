"""Tiny recordings and images of the same shapes, and the options of a run that takes a second."""

from pathlib import Path

import numpy as np
from PIL import Image

from snndelay.data.events import Events
from snndelay.data.vision.atis import write_atis

CLASSES = ("bar", "dot", "post")
SIDE = 16
TINY_VISION = [
    *("--epochs", "2", "--batch-size", "4", "--n-steps", "4", "--threads", "1"),
    *("--test-fraction", "0.34", "--warmup-epochs", "0", "--aug-crop", "1"),
]


def picture(label: int, i: int) -> np.ndarray:
    """A grey image, uint8 (SIDE, SIDE): a bar, a dot or a post at a place that depends on i."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    at = 3 + (5 * i) % (SIDE - 8)
    where = [(slice(at, at + 3), slice(2, 14)), (slice(at, at + 4), slice(at, at + 4)),
             (slice(2, 14), slice(at, at + 3))][label]  # fmt: skip
    image[where] = 200
    return image


def write_tiny_vision(folder: Path, n: int = 9) -> tuple[str, str]:
    """n recordings per class, and the images that they show: folders RECORDINGS and IMAGES."""
    for label, name in enumerate(CLASSES):
        for kind in ("recordings", "images"):
            (folder / kind / name).mkdir(parents=True)
        for i in range(n):
            image = picture(label, i)
            Image.fromarray(image).save(folder / f"images/{name}/image_{i:04d}.png")
            rng = np.random.default_rng((label, i))
            y, x = np.nonzero(image)
            again = rng.integers(len(x), size=60)
            corners = np.array([0, SIDE - 1])  # so that the size of the sensor shows in every file
            x, y = np.concatenate([x[again], corners]), np.concatenate([y[again], corners])
            t_us = np.sort(rng.integers(0, 100_000, len(x)))
            events = Events(t_us, x, y, rng.integers(0, 2, len(x)))
            write_atis(folder / f"recordings/{name}/image_{i:04d}.bin", events)
    return str(folder / "recordings"), str(folder / "images")
