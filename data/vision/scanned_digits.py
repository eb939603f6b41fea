"""The embedded data set of vision: scikit-learn's scanned digits and simulated recordings of them,
so that everything runs without a download.

The 1,797 digits are real scans of 8 x 8 pixels (UCI, doi 10.24432/C50P49, CC BY 4.0); their
recordings are simulated (`saccade.py`), one per digit, when they are asked for.
"""

from functools import cache

import numpy as np

from ...errors import DataError
from ..events import Events
from .images import StaticImages
from .resize import resize
from .saccade import RECIPE, saccade

SIZE = (34, 34)  # (height, width) of the simulated sensor
FIELD, DIGIT = 28, 20  # pixels of the image and of the digit in its middle, as in MNIST
CLASSES = [str(digit) for digit in range(10)]


@cache
def digit_images() -> StaticImages:
    """The digits as uint8 images of 28 x 28 pixels, identity "digits:<index>".
    Errors: DataError if scikit-learn is not there."""
    try:
        from sklearn.datasets import load_digits  # slow to import, so only here
    except ImportError as error:
        raise DataError(f"the digits come with scikit-learn ({error}): install it") from error
    digits = load_digits()
    image_NHW = np.zeros((len(digits.target), FIELD, FIELD), np.uint8)
    inside = slice((FIELD - DIGIT) // 2, (FIELD + DIGIT) // 2)
    for image_HW, scan_HW in zip(image_NHW, digits.images, strict=True):
        image_HW[inside, inside] = np.round(resize(scan_HW * (255 / 16), (DIGIT, DIGIT)))
    identities = [f"digits:{i}" for i in range(len(image_NHW))]
    return StaticImages(digits.target.astype(np.int64), CLASSES, identities, image_NHW)


def digit_recording(i: int, seed: int = 0) -> Events:
    """A recording of image `i` by a sensor of SIZE: about 4,000 events in 315 ms, the same ones for
    the same `seed`."""
    images = digit_images()
    return saccade(images.image(i), seed * len(images) + i, SIZE)


def recording_names(seed: int = 0) -> list[str]:
    """Names of the recordings, which are no files: with these, a change of the recipe or the seed
    makes other frames in a cache."""
    return [f"saccade-{RECIPE}/{seed}/{i:04d}" for i in range(len(digit_images()))]
