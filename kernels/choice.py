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
USUAL_SAMPLES, USUAL_STEPS, USUAL_DELAYS = 64, 100, 4  # as many steps, or so many longest delays

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


def usual(K: int) -> tuple[int, int]:
    """Steps and samples for which evaluation is counted, whatever a batch has: that of the
    published networks, whose longest delay is a quarter of a clip.
    """
    return max(USUAL_STEPS, USUAL_DELAYS * K), USUAL_SAMPLES


@lru_cache(maxsize=256)
def events_win(C: int, N: int, K: int, extra_steps: int, precision: str) -> bool:
    """Whether on a GPU delays of whole steps are evaluated from event to event, or as one-hot taps
    in the dense kernel. Counted at ``usual``, so that all batches of a layer go one way.

    A walk from event to event waits for memory at every spike and so takes what the longest chain
    of spikes takes, however few samples there are; it wins where delays are very long: from K 151
    on at ``highest`` for a layer of 256 x 256 without extra steps.
    """
    dense = one_hot_seconds(*usual(K), C, N, K, extra_steps, PARTS[precision])
    return walk_seconds(*usual(K), C, N) < dense


@lru_cache(maxsize=256)
def frequencies_evaluate(
    C: int, N: int, K: int, extra_steps: int, precision: str, tf32: bool
) -> bool:
    """Whether on a GPU delays of whole steps are evaluated in the frequency domain, counted at
    ``usual``.

    Not where torch multiplies float32 matrices in TF32, as it always does at ``fast``. In float32
    it errs by 1e-6 of the currents, as training does there; the last bits depend on how a signal is
    cut and thereby on its length and batch. One-hot taps at ``highest`` are exact.
    """
    if K == 1 or tf32:
        return False
    shape = (*usual(K), C, N, K, extra_steps)
    others = min(walk_seconds(*usual(K), C, N), one_hot_seconds(*shape, PARTS[precision]))
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
    """The backend of ``available`` that runs ``delay_integer``. Under ``auto`` it depends on the
    layer, not on steps and samples, and a CPU never takes ``fft``, which is not exact.

    Raises:
        BackendError: what is ``asked`` for cannot run.
    """
    _, _, *layer, device, dtype = call
    why_not = None if dtype == torch.int32 else why_not_dtype(dtype)
    if asked == "auto":
        counts = device == "cuda" and not torch.compiler.is_compiling()
        by_fft = counts and frequencies_evaluate(*layer, triton_precision(), products_in_tf32())
        others = tuple(b for b in available if b != "fft")
        available = ("fft", *others) if by_fft else others
    return decide("delay_integer", available, asked, device, cpu=why_not, triton=why_not)
