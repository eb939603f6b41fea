"""The simulated sensor: what each event means, counts, determinism, and real recordings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snndelay.data.vision.images import find_images
from snndelay.data.vision.saccade import DURATION_MS, REFRACTORY_MS, path, saccade
from snndelay.errors import DataError

ROOT = Path(__file__).parents[3]
REAL = os.environ.get("SNNDELAY_DATA")


def stroke(seed: int = 0, side: int = 28) -> np.ndarray:
    """A bright bent stroke on black, about as long as a digit's: float32 (side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    points = np.linspace(0, 1, 60)[:, None] * rng.normal(0, 0.25, (1, 2)) + 0.5
    points += 0.2 * np.stack([np.cos(np.arange(60) / 12), np.sin(np.arange(60) / 12)], 1)
    far = np.min([(x - a) ** 2 + (y - b) ** 2 for a, b in points], axis=0)
    return np.exp(-far / 0.003).astype(np.float32)


def test_events_are_sorted_inside_and_as_many_as_a_real_digit_gives():
    events = saccade(stroke(), seed=3).validate(34)
    assert events.t_us.dtype == np.int64 and np.all(np.diff(events.t_us) >= 0)
    assert events.t_us[0] >= 0 and events.t_us[-1] < 1000 * DURATION_MS
    assert 0 <= events.y.min() <= events.y.max() < 34 and set(events.p) == {0, 1}
    assert 2000 < len(events) < 9000, f"{len(events)} events, real digits: 4064 on average"


def test_image_and_seed_determine_the_events():
    a, b, c = (saccade(stroke(), seed) for seed in (1, 1, 2))
    for name in ("t_us", "x", "y", "p"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), f"{name} differs"
    assert len(a) != len(c) or not np.array_equal(a.t_us, c.t_us), "the seed does nothing"


def test_other_process_gives_the_same_events():
    program = (
        "import numpy as np; from snndelay.data.vision.saccade import saccade\n"
        "e = saccade(np.eye(28, dtype=np.float32), 5); print([int(e.t_us.sum()), int(e.y.sum())])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    events = saccade(np.eye(28, dtype=np.float32), 5)
    assert json.loads(run.stdout) == [int(events.t_us.sum()), int(events.y.sum())]


def test_refractory_time():
    events = saccade(stroke(), 0, threshold=0.01, noise_hz=0)  # pixels fire as fast as they can
    order = np.lexsort((events.t_us, events.x, events.y))
    pixel = (events.y.astype(int) * 34 + events.x)[order]
    gap_us = np.diff(events.t_us[order])[np.diff(pixel) == 0]
    rest_us = 1000 * REFRACTORY_MS
    assert gap_us.min() >= rest_us - 1, f"a pixel fires twice in {gap_us.min()} us"
    assert np.mean(gap_us <= rest_us + 1) > 0.1, "no pixel was held back: this tests nothing"


def test_polarity_says_where_brightness_falls():
    """A bright edge moves in from the right, then out: columns it passes rise, then fall."""
    image = np.zeros((28, 28), np.float32)
    image[:, 14:] = 1
    for falls in (0, 1):
        events = saccade(image, 0, polarity_falls=falls, noise_hz=0)
        right = events.t_us < 200_000  # the image moves to the right: black comes over white
        assert np.mean(events.p[right] == falls) > 0.99, f"rising events bear the bit {falls}"
        assert np.mean(events.p[~right] == 1 - falls) > 0.99, f"bit {falls} when it moves back"


def test_an_event_is_a_threshold_of_log_brightness():
    """Signed events times the threshold add up to the change of log brightness."""
    image, threshold = np.zeros((28, 28), np.float32), 0.05
    image[:, 14:] = 1
    events = saccade(image, 0, threshold=threshold, noise_hz=0, scale=0.3)
    early = events.t_us < 200_000  # the edge has moved 0.3 (3 + 4) = 2.1 pixels to the right
    change = threshold * np.sum(1 - 2.0 * events.p[early]) / 34
    want = -2.1 * np.log(1 / 0.25)  # per row, from white to black
    assert abs(change / want - 1) < 0.08, f"{change:.3f} per row instead of {want:.3f}"


def test_still_or_even_images_give_noise_only():
    even = saccade(np.full((28, 28), 0.7, np.float32), 0)
    still = saccade(stroke(), 0, scale=0)
    want = 0.25 * 34 * 34 * DURATION_MS / 1000
    for events, what in ((even, "even image"), (still, "no movement")):
        assert abs(len(events) - want) < 5 * want**0.5, f"{what}: {len(events)} events"
    assert len(saccade(stroke(), 0, scale=0, noise_hz=0)) == 0


def test_path_starts_at_the_corner_that_was_fitted_and_moves_three_times():
    x_N, y_N = path()
    assert (x_N[0] + 3, y_N[0] + 3) == (-1, 1), "a 28 x 28 image lies in rows and columns 3..30"
    still = (np.diff(x_N) == 0) & (np.diff(y_N) == 0)
    starts = np.flatnonzero(np.diff(still.astype(int)) == -1)
    assert len(starts) + (not still[0]) == 3, f"movements start at steps {starts}"


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (90, 120), (180, 240)])
def test_any_size_of_sensor_and_image(size):
    image = np.random.default_rng(0).random((50, 31), dtype=np.float32)
    events = saccade(image, 0, size).validate(size[1])
    assert len(events) == 0 or events.y.max() < size[0]
    if min(size) > 50:
        for place, length in ((events.x, size[1]), (events.y, size[0])):
            assert place.min() == 0 and place.max() == length - 1, "a border has no events"


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (np.full((28, 28), 255.0), {}),
        (np.full((28, 28), np.nan), {}),
        (np.zeros((28, 28, 3)), {}),
        (np.zeros((0, 28)), {}),
        (np.zeros((28, 28)), {"threshold": 0.0}),
        (np.zeros((28, 28)), {"polarity_falls": 2}),
        (np.zeros((28, 28)), {"size": (0, 34)}),
        (np.zeros((28, 28)), {"size": (34, -1)}),
        (np.zeros((28, 28)), {"scale": -1.0}),
    ],
)
def test_what_cannot_be_looked_at(image, options):
    with pytest.raises(DataError):
        saccade(image, 0, **options)


@pytest.mark.skipif(not REAL, reason="set SNNDELAY_DATA to a folder with nmnist")
def test_simulated_recordings_resemble_the_real_ones():
    """Same image, same pixels, same time and polarity: correlation of counts."""
    from snndelay.data.vision.atis import read_atis

    root = Path(REAL or "") / "nmnist"
    images = find_images(root / "mnist_static.npz")
    at = {identity: i for i, identity in enumerate(images.identities)}
    found = []
    for file in sorted(root.glob("Train/*/*.bin"))[::20]:
        image = images.image(at[f"mnist:{int(file.stem) - 1}"])
        maps = []
        for events in (read_atis(file), saccade(image, 0)):
            step = np.minimum(events.t_us // 35_000, 8)
            place = ((step * 2 + events.p) * 34 + events.y) * 34 + events.x
            maps.append(np.bincount(place, minlength=9 * 2 * 34 * 34))
        found.append(np.corrcoef(maps)[0, 1])
    assert np.mean(found) > 0.7, f"mean correlation {np.mean(found):.3f} over {len(found)} digits"
