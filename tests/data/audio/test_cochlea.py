"""The cochlea against what is known of it: places, rates, its equations in plain NumPy."""

import numpy as np
import pytest
from scipy.special import hankel1, hankel2

from snndelay.data.audio import cochlea
from snndelay.data.audio.cochlea import (
    encode,
    hair_cell,
    membrane_response,
    membrane_velocity,
    prepare,
)
from snndelay.errors import DataError

RATE_HZ = 16_000


def vowel(seconds: float = 0.4, pitch_hz: float = 120.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    """An "a": harmonics of a voice, weighted by three formants, and a little noise."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    harmonics = pitch_hz * np.arange(1, int(0.45 * rate_hz / pitch_hz))
    formants = ((700, 130, 1.0), (1200, 150, 0.5), (2600, 200, 0.2))
    weights = sum(a / (1 + ((harmonics - f) / width) ** 2) for f, width, a in formants)
    voice = np.cos(2 * np.pi * harmonics[:, None] * t) * weights[:, None]
    return 0.1 * voice.sum(0) + 1e-3 * np.random.default_rng(0).standard_normal(t.size)


def test_vowel_gives_the_spike_rates_of_speech():
    events = encode(vowel(), RATE_HZ, seed=1)
    rate_hz, active = len(events) / 0.4, len(np.unique(events.x))
    # real digits: 9200 +- 3100 per second on 490 channels; one vowel moves fewer places
    assert 3500 < rate_hz < 16_000, f"{rate_hz:.0f} spikes per second"
    assert 350 < active < 650, f"{active} active channels"
    assert events.t_us.dtype == np.int64, f"t_us is {events.t_us.dtype}"
    assert events.x.dtype == np.uint16, f"x is {events.x.dtype}"
    assert np.all(np.diff(events.t_us) >= 0), "times are not sorted"
    assert 0 <= events.t_us.min() <= events.t_us.max() < 400_000, "a spike lies outside the clip"
    assert events.x.max() < cochlea.N_UNITS, f"unit {events.x.max()} does not exist"


def test_refractory_time():
    events = encode(vowel(), RATE_HZ)
    order = np.lexsort((events.t_us, events.x))
    gap_us = np.diff(events.t_us[order])[np.diff(events.x[order].astype(int)) == 0]
    assert gap_us.min() >= 1041, f"a cell fires twice within {gap_us.min()} us"


def test_fibres_rest_for_a_millisecond():
    p_CS = np.full((3, 2000), 0.3, np.float32)
    fired_CS = cochlea.nerve_fibres(p_CS, np.uint64(1))
    sums = np.lib.stride_tricks.sliding_window_view(fired_CS, 24, axis=1).sum(-1)
    assert sums.max() == 40, "within 24 samples (1 ms) each of the 40 fibres fires at most once"
    fired_CS = cochlea.nerve_fibres(np.ones((3, 100), np.float32), np.uint64(1))  # nearly sure
    again_CS = fired_CS[:, ::24]
    assert again_CS.min() >= 36, f"fibres do not fire again after 24 samples: {again_CS}"


def test_bushy_cells_fire_as_the_published_ones_do():
    """A spike is seen one sample after the threshold is reached; then a counter of 24 samples
    (1 ms) runs down, while the cell stays at rest and its synapse goes on."""
    fs, tau_mem, tau_syn, refractory, weight = 24_000.0, 1e-3, 5e-4, 24, 13e3 / 40
    dt = 1 / fs
    fired_CS = np.random.default_rng(6).poisson(1.5, (20, 3000)).astype(np.uint8)
    expected, potential, current, counter = [], np.zeros(20), np.zeros(20), np.zeros(20)
    for i, fired_C in enumerate(fired_CS.T):
        spiked = (potential >= 1) & (counter <= 0)
        expected += [(i, unit) for unit in np.flatnonzero(spiked)]
        counter[spiked] = refractory
        current = current * np.exp(-dt / tau_syn) + fired_C
        potential = np.where(spiked, 0, potential * np.exp(-dt / tau_mem))
        potential += np.where(counter <= 0, current * weight * dt, 0)
        counter -= 1
    sample, unit = cochlea.bushy_cell(fired_CS)
    assert len(expected) > 1000
    assert sorted(zip(sample.tolist(), unit.tolist(), strict=True)) == expected


def test_high_tones_excite_low_units():
    t = np.arange(RATE_HZ // 4) / RATE_HZ
    places = []
    for tone_hz in (200, 400, 800, 1600, 3200, 6400):
        velocity = membrane_velocity(
            prepare(np.sin(2 * np.pi * tone_hz * t), RATE_HZ), membrane_response()
        )
        places.append(int(np.argmax(np.square(velocity).mean(1))))
    assert np.all(np.diff(places) < -60), f"places of rising tones: {places}"
    # resonance of place c: m w^2 = c0 exp(-alpha c) - a; the peak lies a little before it
    c = np.log(cochlea.C0 / (cochlea.M * (2 * np.pi * 1600) ** 2)) / cochlea.ALPHA
    assert abs(places[3] - 699 * c / 3.5) < 60, f"1600 Hz at unit {places[3]}"


def test_blocks_join_to_one_long_filter():
    stimulus = np.random.default_rng(3).standard_normal(4 * cochlea.BLOCK)
    response_CF = membrane_response()[450:500]
    moved = np.concatenate([np.zeros(2 * 5000), stimulus])
    velocity = membrane_velocity(stimulus, response_CF)
    velocity_moved = membrane_velocity(moved, response_CF)[:, 5000:]
    error = np.abs(velocity - velocity_moved)[:, cochlea.BEFORE :].max() / np.abs(velocity).max()
    assert error < 2e-3, f"the result depends on where blocks begin: {error:.1e} of the peak"


def test_response_agrees_with_unscaled_equations():
    c = cochlea.PLACES[400]
    w = 2 * np.pi * np.linspace(100.0, 1500.0, 40)
    p = [
        np.sqrt(cochlea._phase(w, at) / cochlea._wave_number(w, at))
        * hankel1(0, cochlea._phase(w, at))
        for at in (c, 1e-12)
    ]
    k = 2 * w / cochlea.ALPHA * np.sqrt(2 / (cochlea.H * cochlea.C0))
    z = 1j * np.sqrt(2 * cochlea.C0 / cochlea.H)
    expected = 2 * w / cochlea._stiffness(w, c) * p[0] / p[1] * z * hankel2(0, k) / hankel2(1, k)
    worst = np.max(np.abs(cochlea._at_place(w, c) * cochlea._at_base(w) / expected - 1))
    assert worst < 1e-4, f"relative error {worst:.1e}"


def test_hair_cell_agrees_with_a_plain_loop():
    u = np.random.default_rng(4).normal(0, 200, (3, 500)).astype(np.float32)
    fs, y, g, l, r, x, a, b, h, m = 24_000.0, 5.05, 2000.0, 2500.0, 6580.0, 66.3, 5.0, 300.0, 5e4, 1
    k0 = g * a / (a + b)
    c = np.full(3, m * y * k0 / (l * k0 + y * (l + r)))
    q, w = c * (l + r) / k0, c * r / x
    expected = []
    for u_C in u.T.astype(np.float64):
        k = np.where(u_C + a > 0, g * (u_C + a) / (u_C + a + b), 0.0)
        dq = np.maximum(0, y * (m - q)) - k * q + x * w
        dc, dw = k * q - (l + r) * c, r * c - x * w
        q, c, w = (np.maximum(0, s + d / fs) for s, d in ((q, dq), (c, dc), (w, dw)))
        expected.append(h * c / fs)
    worst = np.max(np.abs(hair_cell(u) / np.array(expected).T - 1))
    assert worst < 1e-5, f"relative error {worst:.1e}"


@pytest.mark.parametrize("p", [0.001, 0.05, 0.4])
def test_fibres_fire_binomially(p):
    uniform = np.random.default_rng(5).random(20_000)
    drawn = np.array([cochlea._binomial(40, p, u) for u in uniform])
    assert abs(drawn.mean() - 40 * p) < 0.05 * max(1, 40 * p), f"mean {drawn.mean()}"
    assert abs(drawn.var() / (40 * p * (1 - p)) - 1) < 0.1, f"variance {drawn.var()}"
    assert 0 <= drawn.min() <= drawn.max() <= 40, "more fibres fire than there are"


def test_same_seed_same_spikes():
    one, two = encode(vowel(0.1), RATE_HZ, 7), encode(vowel(0.1), RATE_HZ, 7)
    assert np.array_equal(one.t_us, two.t_us), "the same seed gives other times"
    other = encode(vowel(0.1), RATE_HZ, 8)
    assert not np.array_equal(one.t_us, other.t_us), "another seed gives the same times"


@pytest.mark.parametrize("form", ["float32", "int16", "stereo", "quiet"])
def test_sample_format_and_loudness_do_not_matter(form):
    audio = vowel(0.1)
    changed = {
        "float32": audio.astype(np.float32),
        "int16": np.round(audio * 20_000).astype(np.int16),
        "stereo": np.stack([audio, audio], axis=1),
        "quiet": audio * 1e-4,
    }[form]
    n, n_changed = len(encode(audio, RATE_HZ)), len(encode(changed, RATE_HZ))
    assert abs(n - n_changed) <= 0.02 * n, f"{n_changed} spikes instead of {n}"


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_sample_rates(rate_hz):
    events = encode(vowel(0.2, rate_hz=rate_hz), rate_hz)
    assert 1000 < len(events) < 3500, f"{len(events)} spikes in 0.2 s"
    assert events.t_us.max() < 201_000, f"last spike at {events.t_us.max()} us"


@pytest.mark.parametrize(
    "audio",
    [np.zeros(1000), np.full(1000, 0.5), np.empty(0), np.array([0.0, np.nan, 1.0])],
    ids=["silent", "constant", "empty", "nan"],
)
def test_useless_audio_is_an_error(audio):
    with pytest.raises(DataError, match="silent, empty or not finite"):
        encode(audio, RATE_HZ)


def test_overlong_audio_and_bad_rates_are_errors():
    with pytest.raises(DataError, match="longer than 60 s"):
        encode(vowel(0.1), 1)
    with pytest.raises(DataError, match="sample rate"):
        encode(vowel(0.1), 0)
