"""Which way delays are computed where ``backend`` leaves it open: work counted from shapes, never a
timing, so that every process chooses alike, and nothing waits for a GPU.

Legend: T input steps, S output steps, B batch, C input channels, N neurons, K delay taps, P parts
of an operand (triton/delay.py), M products per frequency-domain row and L transform length
(fft_conv.py).

On a CPU multiplications are counted. On a GPU it is the seconds of a forward and backward pass:
products over the rate of each kind, bytes over the bandwidth, at least 2 us per launch. The rates
are those with which the counts pick every winner of these passes on an H100. They are within 4 %
for the frequency domain; the direct kernels skip products at the start of long delays, and in short
ones leave processors idle at the end, neither of which is counted.

| ms, measured (counted) | shd         | ssc         | 2ms         |
|------------------------|-------------|-------------|-------------|
| direct, highest        | 2.58 (2.42) | 5.71 (6.01) | 11.5 (13.0) |
| direct, default        | 1.56 (1.49) | 3.46 (3.55) | 6.44 (7.65) |
| direct, fast           | 0.88 (0.87) | 1.87 (2.01) | 3.29 (4.28) |
| fft, float32           | 1.44 (1.39) | 3.55 (3.62) | 4.25 (4.33) |
| fft, TF32              | 0.80 (0.82) | 2.49 (2.48) | 2.66 (2.59) |

shd: T 112, B 256, C = N = 256, K 25; ssc: T 115, B 128, C = N = 512, K 31; 2ms: T 500, B 64,
C = N = 256, K 125.

On another GPU the ratios of these rates are much alike, and only ratios decide.
"""

from functools import lru_cache

from . import fft_conv
from .precision import PARTS

BANDWIDTH = 3.0e12  # bytes per second, read and written
DIRECT = {3: 490e12, 2: 490e12, 1: 380e12}  # FLOP/s of the direct kernels, of 800e12, by P
FFT = {False: 48e12, True: 157e12}  # FLOP/s of float32 products, in TF32 or not
LAUNCH = 2e-6  # seconds from kernel to kernel, in a graph
DIRECT_LAUNCHES, FFT_LAUNCHES = 14, 50
TAP_PASSES = 114  # plain torch builds taps and their gradients in so many passes over them
STATISTICS_PASSES = 16  # over y, where the convolution does not bring statistics of its own
EVENT = 12e-12  # seconds a synapse takes for a spike, event-driven (triton/delay_integer.py)
TAP = 4.8e-15  # seconds a synapse takes for a tap and part of a step, evaluated densely
ACTIVITY = 0.05  # of the inputs, expected: on a GPU no host knows it


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def frequencies_multiply_less(T: int, B: int, C: int, N: int, K: int, extra_steps: int) -> bool:
    """Whether the frequency domain takes fewer multiplications than K products per step. Measured
    on a CPU (docs/log.md).
    """
    S = T + extra_steps
    tiling = fft_conv.tiling(T, S, K, B, C, N)
    return fft_conv.cost(tiling, T, K, B, C, N) < 3 * S * B * C * N * K


def direct_seconds(T: int, B: int, C: int, N: int, K: int, extra_steps: int, P: int) -> float:
    """Seconds of a forward and backward pass of the direct Triton kernels, counted in whole tiles
    (triton/delay_launch.py).
    """
    S, group = T + extra_steps, 2 if P == 3 else 4
    forward = S * _up(N, 64) * _up(C, 16) * K * P
    to_input = T * _up(C, 64) * _up(N, 16) * K * (P * (P + 1) // 2)
    to_weights = S * _up(N, 128) * _up(C, 64) * _up(K, group) * P
    moved = 4 * 5 * B * (T * C + S * N)
    seconds = 2 * B * (forward + to_input + to_weights) / DIRECT[P] + moved / BANDWIDTH
    return max(seconds, DIRECT_LAUNCHES * LAUNCH)


def fft_seconds(
    T: int, B: int, C: int, N: int, K: int, extra_steps: int, tf32: bool, statistics: bool
) -> float:
    """Seconds of a forward and backward pass of the backend ``fft``: transforms and products as
    matrix products, taps in plain torch.
    """
    S = T + min(extra_steps, K - 1)  # what comes later is silent
    L, hop, tiles = fft_conv.tiling(T, S, K, B, C, N)
    M, rows = 1.5 * L - 1, tiles * B
    read, written = (T, S) if tiles == 1 else (hop + K - 1, hop)
    transforms = rows * (3 * read * C + 2 * written * N) + 3 * K * N * C
    moved = 4 * M * (rows * (6 * C + 5 * N) + 6 * N * C) + 4 * TAP_PASSES * N * C * K
    moved += 4 * STATISTICS_PASSES * S * B * N if statistics else 0
    seconds = 2 * M * (transforms + 3 * rows * N * C) / FFT[tf32] + moved / BANDWIDTH
    return max(seconds, FFT_LAUNCHES * LAUNCH)


@lru_cache(maxsize=256)
def frequencies_win(
    T: int,
    B: int,
    C: int,
    N: int,
    K: int,
    extra_steps: int,
    precision: str,
    tf32: bool,
    statistics: bool = False,
) -> bool:
    """Whether on a GPU the backend ``fft`` is counted faster than the direct Triton kernels.

    Args:
        precision: of the direct kernels, see ``precision.triton_precision``.
        tf32: whether torch multiplies float32 matrices in TF32, which ``highest`` forbids here.
        statistics: whether mean and variance of the output are wanted too.
    """
    if K == 1 or (tf32 and precision == "highest"):
        return False
    shape = (T, B, C, N, K, extra_steps)
    return fft_seconds(*shape, tf32, statistics) < direct_seconds(*shape, PARTS[precision])


def events_win(N: int, K: int, precision: str) -> bool:
    """Whether on a GPU delays of whole steps are evaluated from event to event, or as one-hot taps
    in the dense kernel.

    Both do the same for every step, sample and channel, so T, B and C do not matter, and the bits
    of an evaluation do not depend on its batches. Event-driven, a synapse takes 12 ps for a spike
    (an H100, a layer of 256 x 256: 0.65 ms at an activity of 2 %, 1.96 ms at 8 %), densely 4.8 fs
    for each tap and part of every step (0.45 ms in two parts). At the expected activity events win
    from K P = 126 on: K 63 at ``default``, 42 at ``highest``, 126 at ``fast``.
    """
    events = ACTIVITY * EVENT * _up(N, 32)
    return events < TAP * PARTS[precision] * K * _up(N, 64)
