"""What each way to compute delays costs: work counted from shapes, for choice.py to compare.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, P parts
of an operand (triton/delay.py), M products per frequency-domain row and L transform length
(fft_conv.py).

On a CPU multiplications are counted. On a GPU it is seconds: products over the rate of each kind,
bytes over the bandwidth, at least 2 us per launch. The rates are those of an H100; on another GPU
their ratios are much alike, and only ratios decide. In the tables: shd T 112, B 256, C = N = 256,
K 25; ssc T 115, B 128, C = N = 512, K 31; 2ms T 500, B 64, C = N = 256, K 125.

Training, a forward and backward pass: the counts pick every winner. They are within 6 % for the
frequency domain (cut as for a CPU when it was measured); the direct kernels leave processors idle
at the end of short delays, which is not counted.

| ms, measured (counted) | shd         | ssc         | 2ms         |
|------------------------|-------------|-------------|-------------|
| direct, highest        | 2.58 (2.33) | 5.71 (5.66) | 11.5 (12.3) |
| direct, default        | 1.56 (1.44) | 3.46 (3.36) | 6.44 (7.28) |
| direct, fast           | 0.88 (0.85) | 1.87 (1.92) | 3.29 (4.10) |
| fft, float32           | 1.44 (1.39) | 3.55 (3.62) | 4.25 (4.47) |
| fft, TF32              | 0.80 (0.82) | 2.49 (2.48) | 2.66 (2.73) |

Evaluation on whole delays: the layer shd alone, and whole networks (one H200, as a graph), counted
as the sum of their layers. A network has besides 0.2 to 0.3 ms of neurons, which is in neither.

| ms, measured less neurons (counted) | layer shd   | shd         | ssc         | 2ms         |
|-------------------------------------|-------------|-------------|-------------|-------------|
| one-hot taps, highest               | (0.56)      | (1.08)      | 3.29 (3.97) | (13.0)      |
| one-hot taps, default               | 0.45 (0.37) | 0.73 (0.72) | 2.24 (2.65) | (8.7)       |
| one-hot taps, fast                  | 0.28 (0.24) | 0.45 (0.46) | 1.44 (1.71) | (5.6)       |
| from event to event, 2 % active     | 0.65 (0.64) |             |             |             |
| from event to event, 8 % active     | 1.96 (1.94) | (5.0)       | (14.7)      | (25.1)      |
| the same, 10 % in and 7 % hidden    |             |             |             | 21 (23)     |
| fft, float32                        | (0.42)      | (0.82)      | (2.29)      | (2.8)       |

One-hot taps were never timed at delays as long as those of 2ms: that they take twice as long there
(LONG) is a guess, to be measured with delay_integer alone at K 125.
"""

from functools import lru_cache
from typing import NamedTuple

from .sizes import up

BANDWIDTH = 3.0e12  # bytes per second, read and written
DIRECT = {3: 470e12, 2: 470e12, 1: 365e12}  # FLOP/s of the direct kernels, of 800e12, by P
FFT = {False: 48e12, True: 157e12}  # FLOP/s of float32 products, in TF32 or not
LAUNCH = 2e-6  # seconds from kernel to kernel, in a graph
DIRECT_LAUNCHES, FFT_LAUNCHES = 14, 50
TAP_PASSES = 114  # plain torch builds taps and their gradients in so many passes over them
WHOLE_TAP_PASSES = 4  # and taps of whole delays
CUT_PASSES = 2  # over a signal that is cut into tiles, besides
STATISTICS_PASSES = 16  # over y, where the convolution does not bring statistics of its own
LONG = 125  # a guess, not measured: with so many taps one-hot taps take twice as long as counted
SPIKE = 0.76e-6  # seconds a warp takes for a spike, event-driven (triton/delay_integer.py)
WORD = 0.39e-6  # and for 64 steps of a channel, silent or not
WARPS = 2048  # that do so side by side
ACTIVITY = 0.08  # of the inputs, expected: on a GPU no host knows it
MATMUL_ROWS = 160  # on a CPU: with more rows than this a compiled transform is faster ...
OVERHEAD = 160  # ... which costs about as much as a matrix product with so many rows
CUTTING = 50  # cutting a signal into tiles costs two more passes over it


# -- how the frequency domain cuts a signal ---


class Tiling(NamedTuple):
    """How a convolution is cut: tiles of ``hop`` output steps, transformed with length ``L``."""

    L: int
    hop: int
    tiles: int


def lengths(shortest: int, longest: int) -> list[int]:
    """Even lengths 2^a 3^b from ``shortest`` to the first at or above ``longest``."""
    smooth = sorted(
        2**a * 3**b for a in range(1, 20) for b in range(8) if 2**a * 3**b < 3 * longest + 6
    )
    enough = next(n for n in smooth if n >= longest)
    return [n for n in smooth if shortest <= n <= enough]


@lru_cache(maxsize=256)
def tiling(T: int, S: int, K: int, B: int, C: int, N: int, gpu: bool = False) -> Tiling:
    """The cheapest tiling of a training step."""
    found = lengths(K + 1, max(S, T + K - 1, K + 1))  # more than K even for a single step
    candidates = [Tiling(n, n - K + 1, -(-S // (n - K + 1))) for n in found[:-1]]
    candidates.append(Tiling(found[-1], S, 1))
    if gpu:
        return min(candidates, key=lambda t: fft_pass(t, T, S, B, C, N, K, False))
    return min(candidates, key=lambda t: multiplications(t, T, K, B, C, N))


def multiplications(t: Tiling, T: int, K: int, B: int, C: int, N: int) -> float:
    """Of a training step in the frequency domain on a CPU, a compiled transform counted as the
    matrix product that takes as long.
    """
    products = 3 * t.tiles * B * C * N
    rows = min(t.hop + K - 1, T, OVERHEAD) + (CUTTING if t.tiles > 1 else 0)
    signals = 2.5 * t.tiles * B * (C + N) * rows
    return 1.5 * t.L * (products + signals + 3 * C * N * min(K, OVERHEAD))


# -- seconds of a training step on a GPU ---


def _heard(T: int, S: int, K: int) -> int:
    """Pairs of an output step and a tap that reaches an input step; the others are skipped."""
    return sum(min(T, S - d) for d in range(min(K, S)))


def direct_seconds(T: int, B: int, C: int, N: int, K: int, extra_steps: int, P: int) -> float:
    """Of a forward and backward pass of the direct Triton kernels, counted in whole tiles
    (triton/delay_launch.py).
    """
    S, group = T + extra_steps, 2 if P == 3 else 4
    heard = _heard(T, S, K)
    forward = heard * up(N, 64) * up(C, 16) * P
    to_input = heard * up(C, 64) * up(N, 16) * (P * (P + 1) // 2)
    to_weights = S * up(N, 128) * up(C, 64) * up(K, group) * P
    moved = 4 * 5 * B * (T * C + S * N)
    seconds = 2 * B * (forward + to_input + to_weights) / DIRECT[P] + moved / BANDWIDTH
    return max(seconds, DIRECT_LAUNCHES * LAUNCH)


def fft_seconds(
    T: int, B: int, C: int, N: int, K: int, extra_steps: int, tf32: bool, statistics: bool
) -> float:
    """Of a forward and backward pass of the backend ``fft``: transforms and products as matrix
    products, taps in plain torch.
    """
    S = T + min(extra_steps, K - 1)  # what comes later is silent
    seconds = fft_pass(tiling(T, S, K, B, C, N, True), T, S, B, C, N, K, tf32)
    seconds += 4 * TAP_PASSES * N * C * K / BANDWIDTH
    seconds += 4 * STATISTICS_PASSES * S * B * N / BANDWIDTH if statistics else 0
    return max(seconds, FFT_LAUNCHES * LAUNCH)


def fft_pass(
    t: Tiling, T: int, S: int, B: int, C: int, N: int, K: int, tf32: bool, forward: bool = False
) -> float:
    """Of a forward and backward pass of the convolution, or of a ``forward`` pass alone."""
    M, rows = 1.5 * t.L - 1, t.tiles * B
    read, written = (T, S) if t.tiles == 1 else (t.hop + K - 1, t.hop)
    # times a signal is transformed or taps are; products; spectra read or written
    x, y, taps, products, moved = (1, 1, 1, 1, 2) if forward else (3, 2, 3, 3, 6)
    transforms = rows * (x * read * C + y * written * N) + taps * K * N * C
    spectra = M * (rows * (moved * C + max(2, moved - 1) * N) + moved * N * C)
    cut = CUT_PASSES * rows * (x * read * C + y * written * N) if t.tiles > 1 else 0
    arithmetic = 2 * M * (transforms + products * rows * N * C) / FFT[tf32]
    return arithmetic + 4 * (spectra + cut) / BANDWIDTH


# -- seconds of an evaluation on whole delays on a GPU ---


def one_hot_seconds(T: int, B: int, C: int, N: int, K: int, extra_steps: int, P: int) -> float:
    """Of one tap per synapse in the dense kernel (triton/delay_one_hot.py)."""
    products = _heard(T, T + extra_steps, K) * B * up(N, 64) * up(C, 16) * P
    return 2 * products / DIRECT[P] * (1 + (K / LONG) ** 2)


def walk_seconds(T: int, B: int, C: int, N: int, activity: float = ACTIVITY) -> float:
    """From event to event (triton/delay_integer.py): of the warps, 32 neurons of a sample each,
    every one walks all spikes of its sample, and waits for memory at each.
    """
    rounds = max(1.0, B * up(N, 32) / 32 / WARPS)
    return C * (SPIKE * activity * T + WORD * up(T, 64) / 64) * rounds


def fft_whole_seconds(T: int, B: int, C: int, N: int, K: int, extra_steps: int) -> float:
    """In the frequency domain with float32 products (fft_conv.py)."""
    S = T + min(extra_steps, K - 1)
    seconds = fft_pass(tiling(T, S, K, B, C, N, True), T, S, B, C, N, K, False, forward=True)
    seconds += 4 * WHOLE_TAP_PASSES * N * C * K / BANDWIDTH
    return max(seconds, FFT_LAUNCHES * LAUNCH / 3)
