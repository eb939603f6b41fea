"""Dropout whose mask is a function of (seed, place): backward draws it again instead of keeping it,
and every backend draws the same one.

Legend: T time steps, B batch, N neurons; offset = place of an element; c and k counter and key of
Philox.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

MASKS = ("held", "step")
LOW = 0xFFFFFFFF
UNIT = 4.6566127342e-10  # just below 2**-31: no number drawn rounds to 1


@dataclass(frozen=True)
class Dropout:
    """Silences spikes with probability ``p`` and scales the rest by 1/(1-p).

    ``mask``: ``held`` draws once per sample and neuron for all steps, ``step`` anew at every step.
    ``seed``: int64 tensor of shape (), on the device of the spikes; the same seed gives the same
    mask on every backend.

    Raises:
        ValueError: ``p`` outside [0, 1), an unknown mask, or a seed that is no integer tensor ().
    """

    p: float
    mask: Literal["held", "step"]
    seed: Tensor

    def __post_init__(self):
        if not 0 <= self.p < 1 or self.mask not in MASKS:
            raise ValueError(
                f"dropout must be in [0, 1) and its mask held or step, not {self.p} and "
                f"{self.mask!r}"
            )
        if self.seed.dtype != torch.int64 or self.seed.shape != ():
            raise ValueError("the seed of a dropout must be an int64 tensor of shape ()")


def philox(seed, offset):
    """First word of Philox-4x32 with 10 rounds, as the number 0..2**31-1 that ``uniform`` scales.

    For int64 tensors, and for int64 scalars in numba. The multipliers are the published ones minus
    2**32, so that no product leaves 64 signed bits: its high word lacks just the other factor.
    """
    k0, k1 = seed & LOW, (seed >> 32) & LOW
    c0, c1, c2, c3 = offset, offset * 0, offset * 0, offset * 0
    for _ in range(10):
        # both products of a round before any word is replaced, as published
        a, b = -0x2DAEE0AD * c0, -0x326172A9 * c2  # 0xD2511F53 and 0xCD9E8D57
        high_a, high_b = (a >> 32) + c0, (b >> 32) + c2
        c0, c1, c2, c3 = high_b ^ c1 ^ k0, b & LOW, high_a ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0 ^ ((c0 >> 31) * LOW)  # a negative int32 turns into its complement


def uniform(seed: Tensor, offset: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), one per offset, the same bits as Triton's ``tl.rand(seed,
    offset)``.

    Args:
        seed: int64, ().
        offset: int64 in 0..2**31-1, any shape.

    Returns:
        float32 in the shape of ``offset``.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, doi
    10.1145/2063384.2063405.
    """
    return philox(seed, offset).to(torch.float32) * UNIT


def keep_mask(dropout: Dropout, T: int, B: int, N: int) -> Tensor:
    """Factor of every spike, 0 or 1/(1-p): float32, (1, B, N) for ``held`` and (T, B, N) for
    ``step``.
    """
    # a place counts all that are drawn before it, so that a kernel knows its own without a table
    steps = T if dropout.mask == "step" else 1
    offset = torch.arange(steps * B * N, device=dropout.seed.device).view(steps, B, N)
    return (uniform(dropout.seed, offset) >= dropout.p) * (1 / (1 - dropout.p))
