"""Dropout whose mask is a function of (seed, place): backward draws it again instead of keeping it,
and every backend draws the same one.

Legend: T time steps, B batch, N neurons; offset = place of an element.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .philox import LOW, words

MASKS = ("held", "step")
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


def draw(seed, offset):
    """First word of ``philox.words`` at counter ``offset``, as the number 0..2**31-1 that
    ``uniform`` scales. For int64 tensors, and for int64 scalars in numba.
    """
    word = words(seed, offset, offset * 0, offset * 0, offset * 0)[0]
    return word ^ ((word >> 31) * LOW)  # a negative int32 turns into its complement


def uniform(seed: Tensor, offset: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), one per offset, the same bits as Triton's ``tl.rand(seed,
    offset)``.

    Args:
        seed: int64, ().
        offset: int64 in 0..2**31-1, any shape.

    Returns:
        float32 in the shape of ``offset``.
    """
    return draw(seed, offset).to(torch.float32) * UNIT


def keep_mask(dropout: Dropout, T: int, B: int, N: int) -> Tensor:
    """Factor of every spike, 0 or 1/(1-p): float32, (1, B, N) for ``held`` and (T, B, N) for
    ``step``.
    """
    # a place counts all that are drawn before it, so that a kernel knows its own without a table
    steps = T if dropout.mask == "step" else 1
    offset = torch.arange(steps * B * N, device=dropout.seed.device).view(steps, B, N)
    return (uniform(dropout.seed, offset) >= dropout.p) * (1 / (1 - dropout.p))
