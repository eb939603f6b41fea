"""Which way delays are computed where ``backend`` leaves it open: by the counts of costs.py, never
a timing, so that every process chooses alike, and nothing waits for a GPU.

Legend: T input steps, B batch, C input channels, N neurons, K delay taps.
"""

from functools import lru_cache
from typing import NamedTuple

import torch

from .costs import (
    direct_seconds,
    fft_seconds,
    fft_whole_seconds,
    multiplications,
    one_hot_seconds,
    tiling,
    walk_seconds,
)
from .dispatch import decide, why_not_dtype
from .precision import PARTS, products_in_tf32, triton_precision

CLEARLY = 1.5  # the frequency domain evaluates only where it wins by so much

# -- by counts ---


def frequencies_multiply_less(T: int, B: int, C: int, N: int, K: int, extra_steps: int) -> bool:
    """Whether the frequency domain takes fewer multiplications than K products per step. Measured
    on a CPU (docs/log.md).
    """
    S = T + extra_steps
    tiles = tiling(T, S, K, B, C, N)
    return multiplications(tiles, T, K, B, C, N) < 3 * S * B * C * N * K


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


@lru_cache(maxsize=256)
def events_win(T: int, B: int, C: int, N: int, K: int, extra_steps: int, precision: str) -> bool:
    """Whether on a GPU delays of whole steps are evaluated from event to event, or as one-hot taps
    in the dense kernel.

    A walk from event to event waits for memory at every spike and so takes what the longest chain
    of spikes takes, however few samples there are; it wins where delays are very long and the
    batch is large: from K 89 on at ``highest`` for a layer of 256 x 256 with 256 samples.
    """
    dense = one_hot_seconds(T, B, C, N, K, extra_steps, PARTS[precision])
    return walk_seconds(T, B, C, N) < dense


@lru_cache(maxsize=256)
def frequencies_evaluate(
    T: int, B: int, C: int, N: int, K: int, extra_steps: int, precision: str, tf32: bool
) -> bool:
    """Whether on a GPU delays of whole steps are evaluated in the frequency domain.

    It errs by 1e-6 of the currents with float32 products, less than ``default`` and ``fast`` do.
    Not in TF32, and not at ``highest``, whose products are exact.
    """
    if K == 1 or tf32 or precision == "highest":
        return False
    shape = (T, B, C, N, K, extra_steps)
    others = min(walk_seconds(T, B, C, N), one_hot_seconds(*shape, PARTS[precision]))
    return CLEARLY * fft_whole_seconds(*shape) < others


# -- the backend of a call ---


class Call(NamedTuple):
    """What the choice of a backend depends on."""

    T: int
    """Input steps."""
    B: int
    """Samples."""
    C: int
    """Input channels."""
    N: int
    """Neurons."""
    K: int
    """Taps."""
    extra_steps: int
    """How many steps the output outlasts the input."""
    device: str
    """``cpu`` or ``cuda``."""
    dtype: torch.dtype = torch.float32
    """Of the input; int32: spikes as bits."""


def backend(op: str, call: Call, available: tuple[str, ...], asked: str) -> str:
    """The backend of ``available`` that runs ``delay_linear``, ``delay_lif`` or ``delay_conv``.

    Raises:
        BackendError: what is ``asked`` for cannot run.
    """
    *shape, device, dtype = call
    why_not = why_not_dtype(dtype)
    refusals = dict(cpu=why_not, triton=why_not)
    if asked == "auto":
        # one tap is a plain matrix product, whatever the length
        if torch.compiler.is_compiling():  # a graph must serve every length
            direct = call.K == 1
        elif device == "cuda" and "triton" in available and why_not is None:
            direct = not frequencies_win(
                *shape, triton_precision(), products_in_tf32(), statistics=op == "delay_lif"
            )
            if not direct:
                refusals["triton"] = "the frequency domain is counted faster at this shape"
        else:
            direct = not frequencies_multiply_less(*shape)
        if direct:
            order = ("triton", "reference", "cpu", "fft")
            available = tuple(b for b in order if b in available)
    return decide(op, available, asked, device, **refusals)


def integer_backend(call: Call, available: tuple[str, ...], asked: str) -> str:
    """The backend that runs ``delay_integer``, of ``available`` or ``fft``.

    Raises:
        BackendError: what is ``asked`` for cannot run.
    """
    *shape, device, dtype = call
    why_not = None if dtype == torch.int32 else why_not_dtype(dtype)
    counts = asked == "auto" and device == "cuda" and not torch.compiler.is_compiling()
    if counts and frequencies_evaluate(*shape, triton_precision(), products_in_tf32()):
        available = ("fft", *available)
    return decide("delay_integer", available, asked, device, cpu=why_not, triton=why_not)
