"""Audio to spikes: the cochlea of Cramer et al. 2020 (arXiv 1910.07407), which made SHD and SSC.

    from snndelay.data.audio.cochlea import encode
    events = encode(audio, sample_rate_hz=16000, seed=0)  # Events(t_us, x = unit 0..699)

A sound moves the basilar membrane at 700 places (`membrane_velocity`), each place drives an inner
hair cell (`hair_cell`), whose transmitter fires 40 fibres (`nerve_fibres`), which meet in one bushy
cell (`bushy_cell`); the bushy cells' spikes are the data. Unit 0 is the place of the highest
frequency.
`python -m snndelay.data.audio.cochlea` measures seconds per clip.

Shape suffixes: C channel (unit), F frequency bin, S sample at 24 kHz.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import fft, signal, special

from ...errors import DataError
from ...kernels.cpu.compiled import compiled
from ..events import Events

VERSION = 2  # raise this with any change of the spikes
N_UNITS = 700
RATE_HZ = 24_000  # of the membrane, the hair cells and the spikes; audio is brought to twice that
RMS = 0.3
LONGEST_S = 60.0
GROUP = 50  # units worked on at a time: their memory is small, reused and so twice as fast

# Basilar membrane: constants of Sieroka, Dosch & Rupp 2006 (doi 10.1121/1.2204438)
ALPHA, A, RHO, C0, DELTA, H, M = 3.0, 3500.0, 1.0, 1e9, 0.15, 0.1, 0.05
R0 = DELTA * math.sqrt(C0 * M)
PLACES = np.linspace(0.0, 3.5, N_UNITS)

# One response serves clips of every length: the clip is filtered in blocks, and zeros around each
# block (0.125 s before, 0.075 s after) take up the ringing. That is 50 dB down or more by then.
WINDOW, BEFORE, BLOCK = 18_000, 3_000, 13_200  # samples at RATE_HZ

# Inner hair cell: constants of Meddis 1986 (doi 10.1121/1.393460), rates in 1/s
Y, G, L, R, X, MA, MB, HF, MM = 5.05, 2000.0, 2500.0, 6580.0, 66.3, 5.0, 300.0, 50_000.0, 1.0

FIBRES = 40
REFRACTORY = RATE_HZ // 1000  # 1 ms, of fibres and bushy cell
DT_S = 1 / RATE_HZ
KEEP_MEM = math.exp(-DT_S / 1e-3)  # membrane: 1 ms
KEEP_SYN = math.exp(-DT_S / 0.5e-3)  # synapse: 0.5 ms
WEIGHT = 13_000 / FIBRES  # of a fibre's spike, thresholds per second


def encode(
    audio: np.ndarray,
    sample_rate_hz: float,
    seed: int = 0,
    response_CF: np.ndarray | None = None,
) -> Events:
    """Spikes of one clip.

    audio: floats or integers, (samples,) or (samples, channels), which are averaged.
    response_CF: `membrane_response()` if it is at hand, None computes it once (seconds).
    Returns Events with t_us int64 ascending, x uint16 unit in 0..699. The same audio and seed give
    the same spikes in any process. Loudness does not matter: the clip is scaled to RMS 0.3.
    Raises DataError for silent, empty, non-finite or overlong audio.
    Source: arXiv 1910.07407, section on audio-to-spike conversion.
    """
    stimulus = prepare(audio, sample_rate_hz)
    response_CF = membrane_response() if response_CF is None else response_CF
    spikes = []
    for first in range(0, N_UNITS, GROUP):
        velocity_CS = membrane_velocity(stimulus, response_CF[first : first + GROUP])
        p_CS = hair_cell(velocity_CS)
        fired_CS = nerve_fibres(p_CS, np.uint64(seed % 2**64), first)
        spikes.append(bushy_cell(fired_CS, first))
    sample, unit = np.concatenate(spikes, axis=1)
    order = np.lexsort((unit, sample))
    t_us = np.round(sample[order] * (1e6 / RATE_HZ)).astype(np.int64)
    return Events(t_us=t_us, x=unit[order].astype(np.uint16))


def prepare(audio: np.ndarray, sample_rate_hz: float) -> np.ndarray:
    """Any audio -> the stimulus: float64 (samples,) mono at 48 kHz, RMS 0.3, faded in and out."""
    audio = np.asarray(audio)
    mono = audio.astype(np.float64) if audio.ndim == 1 else audio.mean(axis=1, dtype=np.float64)
    if not (math.isfinite(sample_rate_hz) and sample_rate_hz >= 1):
        raise DataError(f"the sample rate is {sample_rate_hz} Hz; give a positive number")
    if not mono.size or not np.isfinite(mono).all() or np.ptp(mono) == 0:
        raise DataError("the audio is silent, empty or not finite; give a clip with sound")
    if mono.size > LONGEST_S * sample_rate_hz:
        raise DataError(f"the audio is longer than {LONGEST_S:.0f} s; cut it into single clips")
    common = math.gcd(2 * RATE_HZ, round(sample_rate_hz))
    up, down = 2 * RATE_HZ // common, round(sample_rate_hz) // common
    stimulus = signal.resample_poly(mono, up, down)
    stimulus *= RMS / np.sqrt(np.mean(stimulus**2))
    # fades over half the clip each, as published: together one Hann window
    return stimulus * signal.windows.hann(stimulus.size)


def membrane_velocity(stimulus: np.ndarray, response_CF: np.ndarray) -> np.ndarray:
    """Velocity of the membrane, float32 (C, S) at 24 kHz, at the places of `response_CF`.

    stimulus: float (samples,) at 48 kHz. response_CF: rows of `membrane_response()`.
    Source: Sieroka et al. 2006 through arXiv 1910.07407.
    The published program turns v(w, c), written for exp(-iwt), back into time with exp(+iwt): its
    membrane rings before the sound, low frequencies up to 12 ms ahead. SHD has it, so we keep it.
    """
    n = (stimulus.size + 1) // 2
    velocity_CS = np.zeros((len(response_CF), n), np.float32)
    for start in range(0, n, BLOCK):
        window = np.zeros(2 * WINDOW, np.float32)
        block = stimulus[2 * start : 2 * (start + BLOCK)]
        window[2 * BEFORE : 2 * BEFORE + block.size] = block
        bins_F = fft.fft(window)[:WINDOW]
        ringing_CS = fft.ifft(response_CF * bins_F, overwrite_x=True).real
        begin, stop = start - BEFORE, min(start - BEFORE + WINDOW, n)
        skip = max(0, -begin)
        velocity_CS[:, begin + skip : stop] += ringing_CS[:, skip : stop - begin]
    return velocity_CS


@lru_cache(maxsize=1)
def membrane_response() -> np.ndarray:
    """v(w, c) of Sieroka et al. 2006: complex64 (C, F), bins 0..24 kHz; seconds once, 100 MB."""
    w_F = 2 * np.pi * np.maximum(np.arange(WINDOW) * (RATE_HZ / WINDOW), 1.0)
    at_base_F = _at_base(w_F)
    v_CF = np.zeros((N_UNITS, WINDOW), np.complex64)
    for v_F, c in zip(v_CF, PLACES, strict=True):
        # far above the place's own frequency the wave is dead (below 1e-6 of its peak)
        alive = np.searchsorted(w_F, 2.5 * math.sqrt(C0 * math.exp(-ALPHA * c) / M))
        v_F[:alive] = _at_place(w_F[:alive], c) * at_base_F[:alive]
    return v_CF


# v(w, c) = (2 w / xi) p(w, c) z(w) / p(w, 0), p = sqrt(G / g) H0(G). Since G is g(w, 0) times
# 2 / alpha at c = 0, sqrt(G / g) is a number there. hankel1e(0, G) is H0(G) exp(-iG): exp(iG) and
# exp(-iG(w, 0)), each too large or small for a float, meet in one exponential.
def _at_place(w: np.ndarray, c: float) -> np.ndarray:
    phase, phase_0 = _phase(w, c), 2 / ALPHA * _wave_number(w, 0.0)
    p = np.sqrt(phase / _wave_number(w, c)) * special.hankel1e(0, phase)
    return 2 * w / _stiffness(w, c) * p * np.exp(1j * (phase - phase_0))


def _at_base(w: np.ndarray) -> np.ndarray:
    k = 2 * w / ALPHA * math.sqrt(2 / (H * C0))
    z = math.sqrt(2 * C0 / H) * (1j * special.j0(k) + special.y0(k))
    z /= special.j1(k) - 1j * special.y1(k)
    return z / (math.sqrt(2 / ALPHA) * special.hankel1e(0, 2 / ALPHA * _wave_number(w, 0.0)))


def _stiffness(w: np.ndarray, c: float) -> np.ndarray:  # xi(w, c)
    return C0 * math.exp(-ALPHA * c) - A - M * w**2 - 1j * w * R0 * math.exp(-ALPHA * c / 2)


def _wave_number(w: np.ndarray, c: float) -> np.ndarray:  # g(w, c)
    return w * np.sqrt(RHO / (H * _stiffness(w, c)))


def _phase(w: np.ndarray, c: float) -> np.ndarray:  # G(w, c), the integral of g from 0 to c
    root = np.sqrt(A + M * w**2)

    def half_log(c: float) -> np.ndarray:  # A(w) at c = 0, B(w, c) elsewhere
        damping = math.exp(-ALPHA * c / 2) * R0
        drive = 1j * (2 * A + w * (2 * M * w + 1j * damping)) / root
        return ALPHA / 2 * math.exp(ALPHA * c / 2) * (drive - 2 * np.sqrt(_stiffness(w, c)))

    log = np.log(half_log(0.0) / half_log(c))
    return 2 * _wave_number(w, 0.0) / ALPHA - 2j * math.sqrt(2) * w * log / (
        ALPHA * math.sqrt(2 * H) * root
    )


@compiled()
def hair_cell(velocity_CS: np.ndarray) -> np.ndarray:
    """Firing probability of a nerve fibre per sample, float32 (C, S) of the membrane's velocity.

    Meddis 1986, one Euler step per sample: transmitter in the free pool q, the cleft c and the
    reprocessing store w.
    """
    n_channels, n = velocity_CS.shape
    p_CS = np.empty((n_channels, n), np.float32)
    dt = 1.0 / RATE_HZ
    k_0 = G * MA / (MA + MB)
    c_0 = MM * Y * k_0 / (L * k_0 + Y * (L + R))
    for channel in range(n_channels):
        c = c_0
        q = c * (L + R) / k_0
        w = c * R / X
        for i in range(n):
            u = velocity_CS[channel, i] + MA
            k = G * u / (u + MB) if u > 0 else 0.0
            new_q = q + (max(0.0, Y * (MM - q)) - k * q + X * w) * dt
            new_c = c + (k * q - (L + R) * c) * dt
            new_w = w + (R * c - X * w) * dt
            q, c, w = max(0.0, new_q), max(0.0, new_c), max(0.0, new_w)
            p_CS[channel, i] = HF * c * dt
    return p_CS


@compiled()
def _uniform(state: np.uint64) -> tuple[np.uint64, float]:  # splitmix64 (Steele et al. 2014)
    state += np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@compiled()
def _binomial(n: int, p: float, uniform: float) -> int:
    """How many of n fibres fire: the inverse of the binomial's tail at a uniform number."""
    if uniform >= n * p:  # P(count > 0) <= n p: nearly always the end
        return 0
    p = min(p, 0.999)
    mass = (1.0 - p) ** n
    above = 1.0 - mass  # P(count > 0)
    count = 0
    while uniform < above and count < n:
        count += 1
        mass *= (n - count + 1) / count * p / (1.0 - p)
        above -= mass
    return count


@compiled()
def nerve_fibres(p_CS: np.ndarray, seed: np.uint64, first: int = 0) -> np.ndarray:
    """How many of the 40 fibres of each unit fire at each sample, uint8 (C, S).

    p_CS: firing probability of each of its fibres per sample, (C, S), of units first, first + 1,
    ... The fibres are alike, so only how many are out of their refractory time and how many of
    those fire needs to be drawn. Each unit has its own stream of random numbers.
    """
    n_channels, n = p_CS.shape
    fired_CS = np.zeros((n_channels, n), np.uint8)
    for channel in range(n_channels):
        state = seed + np.uint64(first + channel) * np.uint64(0xD1342543DE82EF95)
        state, _ = _uniform(state ^ (state >> np.uint64(29)))
        ready = FIBRES
        for i in range(n):
            if i >= REFRACTORY:
                ready += fired_CS[channel, i - REFRACTORY]
            state, uniform = _uniform(state)
            fired = _binomial(ready, p_CS[channel, i], uniform)
            fired_CS[channel, i] = fired
            ready -= fired
    return fired_CS


@compiled()
def bushy_cell(fired_CS: np.ndarray, first: int = 0) -> np.ndarray:
    """Spikes of one leaky integrate-and-fire cell per channel: int64 (2, n), samples and units.

    fired_CS: how many fibres fire at each sample, integer (C, S), of units first, first + 1, ...
    As in the published program a cell that ends a sample at its threshold or above fires at the
    next one, and integrates nothing in the REFRACTORY samples from then on. So two of its spikes
    are at least REFRACTORY + 1 samples apart.
    """
    n_channels, n = fired_CS.shape
    spikes = np.empty((2, n_channels * (n // REFRACTORY + 1)), np.int64)
    n_spikes = 0
    for channel in range(n_channels):
        current, potential, wake = 0.0, 0.0, 0
        for i in range(n):
            if potential >= 1.0:
                spikes[0, n_spikes], spikes[1, n_spikes] = i, first + channel
                n_spikes += 1
                potential, wake = 0.0, i + REFRACTORY
            current = current * KEEP_SYN + fired_CS[channel, i]
            if i >= wake:  # in the order of the published program: the same bits, the same spikes
                potential = potential * KEEP_MEM + current * WEIGHT * DT_S
    return spikes[:, :n_spikes]


def _benchmark() -> None:
    from time import perf_counter

    noise = np.random.default_rng(0).standard_normal(24_000)
    for run in ("first clip (compiles, prepares the membrane)", "next clip"):
        start = perf_counter()
        n = encode(noise, 48_000).t_us.size
        print(f"{run}: {perf_counter() - start:.2f} s for 0.5 s of noise, {n} spikes")


if __name__ == "__main__":
    _benchmark()
