"""The log-mel front end: the waveform of a clip -> frames [T, C] in decibels, as the published
delay runs make them for Speech Commands.

Cut or padded to its length, at RATE_HZ, power spectrum of N_FFT samples at every step, mel bands,
dB. In torch and in float64 throughout: bands near silence would lose digits in float32.

Legend: n samples of a clip, T frames, C mel bands, F = N_FFT / 2 + 1 frequencies.
Source: Hammouamri et al. 2024 (arXiv 2306.17670), whose published code calls torchaudio's
Resample, Spectrogram, MelScale and AmplitudeToDB with their defaults; the equations are those.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, DataError

RATE_HZ = 8000  # at which spectra are taken
N_FFT = 256  # samples of a spectrum, 32 ms
F_MIN, F_MAX = 50.0, 14_000.0  # Hz; published: bands above RATE_HZ / 2 stay at the floor
SILENCE_DB = -100.0  # 10 log10 of the least power, 1e-10
LENGTH_MS = 1000.0  # of a clip that no setting cuts
ZEROS, ROLLOFF = 6, 0.99  # of the resampling filter: zero crossings on each side, cutoff
LARGEST_KERNEL = 2**22  # elements; common rates take below 2**18


class LogMel(NamedTuple):
    """How a waveform becomes frames. `dt_ms`: time from one to the next; `n_mels`: C; `n_steps`:
    T, None: as many as `window_ms` has, and without it LENGTH_MS. `window_ms`: longer clips become
    several windows of that length, which overlap by the part `overlap`; None: they are cut."""

    dt_ms: float = 10.0
    n_mels: int = 140
    n_steps: int | None = None
    window_ms: float | None = None
    overlap: float = 0.0

    @property
    def hop(self) -> int:
        """Samples at RATE_HZ from one frame to the next."""
        return round(self.dt_ms * RATE_HZ / 1000)

    @property
    def T(self) -> int:
        """Frames of every clip: one at each of its ends as well."""
        whole = int((self.window_ms or LENGTH_MS) / self.dt_ms + 1e-9) + 1
        return self.n_steps or whole

    @property
    def length_ms(self) -> float:
        """To which clips are cut or padded."""
        return (self.T - 1) * self.dt_ms

    @property
    def step_ms(self) -> float:
        """From the start of one window to that of the next; 0 without windows."""
        return (self.window_ms or 0) * (1 - self.overlap)

    def check(self) -> "LogMel":
        """Itself, or ConfigError if it cannot be."""
        if abs(self.hop - self.dt_ms * RATE_HZ / 1000) > 1e-6 or not 1 <= self.hop <= N_FFT:
            raise ConfigError(
                f"dt_ms is {self.dt_ms:g}: log-mel frames take a multiple of {1000 / RATE_HZ:g} up "
                f"to {N_FFT * 1000 / RATE_HZ:g}"
            )
        if (self.T - 1) * self.hop <= N_FFT // 2:
            least = N_FFT // 2 // self.hop + 2
            raise ConfigError(
                f"log-mel clips of {self.T} frames are too short: take {least} frames"
            )
        return self


def log_mel(wave: Tensor, rate_hz: int, how: LogMel) -> Tensor:
    """Frames of one clip, float32 (T, C): 10 log10 max(power, 1e-10) of every band.

    `wave` (n,): samples in -1 .. 1 at `rate_hz`, cut to the length of `how`, or padded with zeros.
    Frame t is centred on time t * dt_ms; the wave is reflected at its ends.
    Errors: DataError for a rate that no filter is made for.
    """
    n = round(how.length_ms * rate_hz / 1000)
    wave = wave.double()[:n]
    wave = resampled(F.pad(wave, (0, n - len(wave))), rate_hz)[: (how.T - 1) * how.hop]
    wave = F.pad(wave, (0, (how.T - 1) * how.hop - len(wave)))  # odd rates: a sample may lack
    spectrum_FT = torch.stft(wave, N_FFT, how.hop, window=_hann(), return_complex=True)
    power_FT = spectrum_FT.real.square() + spectrum_FT.imag.square()
    power_TC = power_FT.T @ mel_filters(how.n_mels)
    return power_TC.clamp_(min=1e-10).log10_().mul_(10).float()


@lru_cache(maxsize=1)
def _hann() -> Tensor:
    return torch.hann_window(N_FFT, periodic=True, dtype=torch.float64)


@lru_cache(maxsize=8)
def mel_filters(n_mels: int) -> Tensor:
    """Triangles on the mel scale m = 2595 log10(1 + f / 700), float64 (F, C): of height 1, each
    from the centre of its lower neighbour to that of its upper one, which lie evenly in m."""
    f_F1 = torch.linspace(0, RATE_HZ / 2, N_FFT // 2 + 1, dtype=torch.float64)[:, None]
    first, last = (2595 * math.log10(1 + f / 700) for f in (F_MIN, F_MAX))
    edge = torch.linspace(first, last, n_mels + 2, dtype=torch.float64)
    edge = 700 * (10 ** (edge / 2595) - 1)
    low, centre, high = edge[:-2], edge[1:-1], edge[2:]
    return torch.minimum((f_F1 - low) / (centre - low), (high - f_F1) / (high - centre)).clamp(
        min=0
    )


def resampled(wave: Tensor, rate_hz: int) -> Tensor:
    """`wave` float64 (n,) of `rate_hz`, at RATE_HZ: a sinc of ZEROS zero crossings on each side
    under a Hann window, which passes up to ROLLOFF of half the lower rate. Errors: as `log_mel`."""
    if rate_hz == RATE_HZ:
        return wave
    kernel, width, stride = _kernel(rate_hz)
    padded = F.pad(wave, (width, width + stride))
    blocks = padded.unfold(0, len(kernel), stride)  # half the time of conv1d
    return (blocks @ kernel).flatten()[: math.ceil(len(wave) * RATE_HZ / rate_hz)]


@lru_cache(maxsize=8)
def _kernel(rate_hz: int) -> tuple[Tensor, int, int]:
    """Filters of all phases (taps, phases), samples before the first output, and samples from
    one output of a phase to the next."""
    common = math.gcd(rate_hz, RATE_HZ)
    stride, phases = rate_hz // common, RATE_HZ // common
    cutoff = min(stride, phases) * ROLLOFF
    width = math.ceil(ZEROS * stride / cutoff)
    if phases * (2 * width + stride) > LARGEST_KERNEL:
        raise DataError(
            f"a rate of {rate_hz} Hz is no usual one: resample the file, to 16000 Hz say"
        )
    at = torch.arange(-width, width + stride, dtype=torch.float64) / stride
    out = torch.arange(phases, dtype=torch.float64) / phases
    t = ((at[:, None] - out) * cutoff).clamp(-ZEROS, ZEROS)
    window = torch.cos(t * math.pi / ZEROS / 2).square()
    return torch.sinc(t) * window * cutoff / stride, width, stride
