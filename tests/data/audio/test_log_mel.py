"""The log-mel front end against its equations, written out once more in numpy."""

import math

import numpy as np
import pytest
import torch

from snndelay.data.audio.log_mel import (
    N_FFT,
    RATE_HZ,
    SILENCE_DB,
    LogMel,
    _kernel,
    log_mel,
    mel_filters,
    resampled,
)
from snndelay.errors import ConfigError, DataError


def numpy_resampled(x, rate):
    """Every output as its own sum over all samples: sinc under a Hann window."""
    n_out = math.ceil(len(x) * RATE_HZ / rate)
    cutoff = min(rate, RATE_HZ) * 0.99
    out = np.zeros(n_out)
    for j in range(n_out):
        t = (np.arange(len(x)) / rate - j / RATE_HZ) * cutoff
        near = np.abs(t) < 6
        h = np.sinc(t[near]) * np.cos(np.pi * t[near] / 12) ** 2 * cutoff / rate
        out[j] = h @ x[near]
    return out


def numpy_log_mel(x, rate, hop=80, n_mels=140, n_steps=101):
    """Frames [T, C] of a wave that is cut or padded, as the published chain makes them."""
    n = round((n_steps - 1) * hop / RATE_HZ * rate)
    x = np.pad(x[:n], (0, max(0, n - len(x))))
    x = x if rate == RATE_HZ else numpy_resampled(x, rate)
    x = np.pad(x[: (n_steps - 1) * hop], (0, max(0, (n_steps - 1) * hop - len(x))))
    x = np.pad(x, N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    frames = np.stack([x[t * hop : t * hop + N_FFT] * window for t in range(n_steps)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    points = [
        700 * (10 ** (m / 2595) - 1) for m in np.linspace(mel(50.0), mel(14000.0), n_mels + 2)
    ]
    bank = np.zeros((N_FFT // 2 + 1, n_mels))
    for c in range(n_mels):
        low, centre, high = points[c : c + 3]
        for k in range(N_FFT // 2 + 1):
            f = k * RATE_HZ / N_FFT
            up, down = (f - low) / (centre - low), (high - f) / (high - centre)
            bank[k, c] = max(0.0, min(up, down))
    return 10 * np.log10(np.maximum(power @ bank, 1e-10))


@pytest.mark.parametrize(
    ("rate", "hop", "n_mels", "n_steps", "n"),
    [
        (16_000, 80, 140, 101, 16_000),
        (16_000, 80, 140, 101, 9_001),
        (16_000, 80, 140, 101, 20_000),
        (8_000, 80, 63, 101, 8_000),
        (11_025, 40, 40, 30, 5_000),
        (44_100, 80, 140, 25, 9_000),
        (48_000, 256, 1, 5, 48_000),
    ],
)
def test_frames_are_those_of_the_equations(rate, hop, n_mels, n_steps, n):
    rng = np.random.default_rng(n)
    x = 0.1 * rng.standard_normal(n) * np.exp(-np.arange(n) / n * 8)
    how = LogMel(hop / 8, n_mels, n_steps).check()
    found = log_mel(torch.from_numpy(x), rate, how).numpy()
    wanted = numpy_log_mel(x, rate, hop, n_mels, n_steps)
    assert found.shape == (n_steps, n_mels) and found.dtype == np.float32
    worst = np.abs(found - wanted).max()
    assert worst < 1e-4, (
        f"{worst} dB off at {np.unravel_index(np.abs(found - wanted).argmax(), found.shape)}"
    )


def test_the_published_form():
    """A second gives 101 frames of 140 bands; bands above 4 kHz and silence lie at -100 dB."""
    rng = np.random.default_rng(0)
    how = LogMel().check()
    found = log_mel(torch.from_numpy(rng.standard_normal(16_000)), 16_000, how)
    assert found.shape == (101, 140)
    above = mel_filters(140).sum(0) == 0
    edges = np.linspace(*(2595 * math.log10(1 + f / 700) for f in (50, 14_000)), 142)
    lowest = 700 * (10 ** (edges[:-2] / 2595) - 1)
    assert above[lowest >= 4000].all() and (found[:, above] == SILENCE_DB).all()
    assert (log_mel(torch.zeros(4000), 16_000, how) == SILENCE_DB).all()


def test_a_tone_has_the_power_that_its_window_says():
    """A cosine of amplitude a on bin k: (a sum(w) / 2)^2 there, a quarter of it beside it, as the
    spectrum of a Hann window has; a band is their weighted sum."""
    a, k = 0.5, 40
    wave = a * np.cos(2 * np.pi * k * np.arange(8000) / N_FFT)
    found = log_mel(torch.from_numpy(wave), RATE_HZ, LogMel())[50].numpy()
    power = np.zeros(N_FFT // 2 + 1)
    power[k], power[[k - 1, k + 1]] = (a * N_FFT / 4) ** 2, (a * N_FFT / 8) ** 2
    wanted = 10 * np.log10(np.maximum(power @ mel_filters(140).numpy(), 1e-10))
    loud = wanted > 0
    assert loud.sum() >= 2 and np.abs(found - wanted)[loud].max() < 1e-4


def test_the_filter_has_the_published_sizes():
    """3:2 as measured of torchaudio 2.x: width ceil(6 * 3 / 1.98) = 10, two phases of 23 taps."""
    kernel, width, stride = _kernel(12_000)
    assert (kernel.shape, width, stride) == ((23, 2), 10, 3)
    for rate in (16_000, 12_000, 44_100, 4_000):
        gain = _kernel(rate)[0].sum(0)
        assert (gain - 1).abs().max() < 5e-3, f"a constant becomes {gain} at {rate} Hz"


def test_resampling_keeps_what_is_heard_and_removes_what_cannot_be():
    t = np.arange(16_000) / 16_000
    low, high = (torch.from_numpy(np.sin(2 * np.pi * f * t)) for f in (1000, 5000))
    made = resampled(low, 16_000)
    wanted = torch.from_numpy(np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000))
    assert (made - wanted)[100:-100].abs().max() < 5e-3
    assert resampled(high, 16_000)[100:-100].abs().max() < 0.05


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (LogMel(dt_ms=7.3), "multiple of 0.125 up to 32"),
        (LogMel(dt_ms=40), "multiple of 0.125 up to 32"),
        (LogMel(n_steps=2), "2 frames are too short: take 3"),
        (LogMel(window_ms=5), "1 frames are too short"),
    ],
)
def test_what_cannot_be_is_refused(how, words):
    with pytest.raises(ConfigError, match=words):
        how.check()


def test_a_rate_that_would_need_a_huge_filter_is_refused():
    with pytest.raises(DataError, match="44101 Hz is no usual one"):
        log_mel(torch.zeros(100), 44_101, LogMel())
