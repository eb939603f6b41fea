"""An image -> the events of a camera that looks at it and moves: three saccades in 315 ms.

    from snndelay.data.vision.saccade import saccade
    events = saccade(image_HW, seed=0)  # Events(t_us, x, y, p) of a 34 x 34 sensor

So were N-MNIST and N-Caltech101 recorded (Orchard et al. 2015, doi 10.3389/fnins.2015.00437): a
sensor on a pan-tilt head in front of a screen. The constants below are fitted to 700 real N-MNIST
recordings whose images are known; the movements, to the correlation of simulated with real counts
per pixel, polarity and 17.5 ms. `python benchmarks/saccade.py` measures how well that holds.

Shape suffixes: H row, W column of the sensor; N time step of the simulation.
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import DataError
from ...kernels.cpu.compiled import compiled
from ..events import Events
from ..seeds import generator
from .images import covered
from .resize import resize

RECIPE = 1  # raise this with any change of the events: frames in caches are then made anew
FIELD = 34  # rows and columns of the sensor that the constants were fitted to
START = (-4.0, -2.0)  # (x, y) pixels from the middle, where an image is before the first movement
# start and end in ms, movement of the image in x and y in pixels, each a half cosine
MOVEMENTS = ((1.0, 91.0, 3.0, 6.6), (106.0, 188.0, 4.0, -6.3), (215.0, 299.5, -6.0, -0.1))
DURATION_MS, STEP_MS, REFRACTORY_MS = 315.0, 0.5, 2.0
BLUR_PX = 0.55  # of the optics, in pixels of the sensor
THRESHOLD, SPREAD = 0.25, 0.15  # change of log brightness per event; relative, per pixel
NOISE_HZ = 0.25  # events per pixel and second without cause


def saccade(
    image_HW: np.ndarray,
    seed: int,
    size: tuple[int, int] = (FIELD, FIELD),
    scale: float | None = None,
    polarity_falls: int = 1,
    threshold: float = THRESHOLD,
    noise_hz: float = NOISE_HZ,
) -> Events:
    """Events of one recording, sorted by time.

    image_HW: float32 (rows, columns) in 0..1, of any size. It is resized to 28/34 of the sensor's
    `size` (H, W), so a 28 x 28 digit lies 1:1 on 34 x 34 pixels, at first with its corner at
    x -1, y +1. Beyond its edge the image goes on as at the edge.
    scale: how far the image moves, in units of the fitted movements; None: sqrt(min(H, W) / 34),
    which gives photographs at 180 x 240 the 50,000 to 100,000 events of N-Caltech101.
    polarity_falls: the polarity bit where brightness falls; 1 in the files of N-MNIST.
    threshold: mean change of log brightness that makes an event. noise_hz: per pixel.
    Returns t_us int64 in 0..314999, x, y, p int16. The same image and seed give the same events.
    Errors: DataError for an image that is empty, not finite or not in 0..1.
    Source: the camera's model is that of Lichtsteiner et al. 2008 (doi 10.1109/JSSC.2007.914337):
    an event whenever ln(0.75 I + 0.25) of a pixel has moved by its threshold since the last one.
    """
    image_HW = np.asarray(image_HW, np.float32)
    if image_HW.ndim != 2 or not image_HW.size or not 0 <= image_HW.min() <= image_HW.max() <= 1:
        raise DataError(f"an image to look at is 2-D in 0..1, not {image_HW.shape}: divide by 255")
    H, W = size
    if min(H, W) < 1:
        raise DataError(f"a sensor of {size} has no pixels: give (H, W)")
    scale = math.sqrt(min(H, W) / FIELD) if scale is None else scale
    if not (threshold > 0 and noise_hz >= 0 and scale >= 0 and polarity_falls in (0, 1)):
        raise DataError("a sensor needs threshold > 0, noise_hz and scale >= 0, polarity 0 or 1")
    (top, height), (left, width) = covered(H), covered(W)
    log_HW = np.log(0.75 * _blur(resize(image_HW, (height, width))) + 0.25)
    x_N, y_N = scale * path()
    rng = generator("recording", seed)
    limit_2HW = threshold * np.maximum(1 + SPREAD * rng.standard_normal((2, H, W)), 0.2)
    # the pixel's memory before the recording lies anywhere between its two thresholds
    start_HW = rng.random((H, W)) * limit_2HW.sum(0) - limit_2HW[0]
    keys = _events(log_HW, x_N + left, y_N + top, limit_2HW, start_HW, polarity_falls)
    n_noise = rng.poisson(noise_hz * H * W * DURATION_MS / 1000)
    noise = rng.integers(0, int(1000 * DURATION_MS) * 2 * H * W, n_noise)
    t_us, place = np.divmod(np.sort(np.concatenate((keys, noise))), 2 * H * W)
    y, x = np.divmod(place // 2, W)
    return Events(t_us, x.astype(np.int16), y.astype(np.int16), (place % 2).astype(np.int16))


def path() -> np.ndarray:
    """Place of the image at every step of 0.5 ms, x and y from the middle of the field in pixels
    of the 34 x 34 sensor: float64 (2, N)."""
    t_ms = np.arange(0, DURATION_MS + STEP_MS / 2, STEP_MS)
    at_N = np.array(START)[:, None] + np.zeros((2, len(t_ms)))
    for begin, end, dx, dy in MOVEMENTS:
        done_N = (1 - np.cos(np.pi * np.clip((t_ms - begin) / (end - begin), 0, 1))) / 2
        at_N += np.array((dx, dy))[:, None] * done_N
    return at_N


def _blur(image_HW: np.ndarray) -> np.ndarray:
    """Gaussian blur of BLUR_PX over seven pixels, the edge going on outside."""
    weights = np.exp(-0.5 * (np.arange(-3, 4) / BLUR_PX) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        wide = np.pad(image_HW, [(3, 3) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(wide, 7, axis=axis)
        image_HW = windows @ weights
    return image_HW


@compiled()
def _events(
    log_HW: np.ndarray,  # log brightness of the image
    x_N: np.ndarray,  # place of its corner on the sensor at each step, float64 (N,)
    y_N: np.ndarray,
    limit_2HW: np.ndarray,  # thresholds of every pixel, for rising and falling brightness
    start_HW: np.ndarray,  # the pixel's memory minus its brightness, at first
    falls: int,  # polarity bit of falling brightness
) -> np.ndarray:
    """Events as int64 (n,) keys: ((t_us * H + y) * W + x) * 2 + p, pixel by pixel."""
    _, H, W = limit_2HW.shape
    bottom, right = log_HW.shape[0] - 1.0, log_HW.shape[1] - 1.0
    keys = np.empty(H * W * (int(DURATION_MS / REFRACTORY_MS) + 1), np.int64)
    n = 0
    for row in range(H):
        for column in range(W):
            memory = before = 0.0
            ready_ms = 0.0  # end of the refractory time
            for step in range(len(x_N)):
                y = min(max(row - y_N[step], 0.0), bottom)
                x = min(max(column - x_N[step], 0.0), right)
                i, j = int(y), int(x)
                below, beside = min(i + 1, int(bottom)), min(j + 1, int(right))
                v, u = y - i, x - j
                now = (log_HW[i, j] * (1 - u) + log_HW[i, beside] * u) * (1 - v)
                now += (log_HW[below, j] * (1 - u) + log_HW[below, beside] * u) * v
                if step == 0:
                    memory, before = now + start_HW[row, column], now
                end_ms = step * STEP_MS
                while ready_ms < end_ms:
                    fallen = now < memory
                    limit = limit_2HW[int(fallen), row, column]
                    if abs(now - memory) < limit:
                        break
                    memory += -limit if fallen else limit
                    # when the line from before to now meets the memory, or as soon as ready
                    share = (memory - before) / (now - before) if now != before else 0.0
                    t_ms = max(end_ms - STEP_MS * (1 - min(max(share, 0.0), 1.0)), ready_ms)
                    ready_ms = t_ms + REFRACTORY_MS
                    polarity = falls if fallen else 1 - falls
                    t_us = min(int(1000 * t_ms), int(1000 * DURATION_MS) - 1)
                    keys[n] = ((t_us * H + row) * W + column) * 2 + polarity
                    n += 1
                before = now
    return keys[:n]
