"""What a compiled scan over time is given, whatever the backend.

Legend: T time steps, B batch, N neurons.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .dropout import Dropout
from .neurons import NEURONS, Constants, NeuronOptions, potential_at_rest

# the fields of Scan in the words of torch's op registry, which takes no tuple
SCHEMA = (
    "Tensor x, Tensor? scale, Tensor? shift, Tensor[] coefficients, Tensor? seed, "
    "str neuron, float v_threshold, float rest, str reset, bool detach_reset, "
    "bool detach_state, str surrogate, float alpha, float p_drop, str mask"
)


class Scan(NamedTuple):
    """A neuron, its input and its dropout: all that the scan and its adjoint share."""

    x: Tensor
    """Input current, (T, B, N), contiguous, float32, bfloat16 or float16."""
    scale: Tensor | None
    """(N,) float32, or None: the neuron sees ``x * scale + shift``."""
    shift: Tensor | None
    """(N,) float32; None together with ``scale``."""
    coefficients: list[Tensor]
    """Of the NEURONS entry, (N,) float32 each."""
    seed: Tensor | None
    """Of the dropout mask, () int64; None: no dropout."""
    neuron: str
    """A key of NEURONS."""
    v_threshold: float
    """Fires at or above this potential."""
    rest: float
    """Resting potential, to which a hard reset leads."""
    reset: str
    """``hard``, ``soft`` or ``none``."""
    detach_reset: bool = True
    """No gradient passes through the reset."""
    detach_state: bool = False
    """No gradient passes from a step to the one before."""
    surrogate: str = "atan"
    """A key of SURROGATES."""
    alpha: float = 1.0
    """Sharpness of the surrogate."""
    p_drop: float = 0.0
    """Probability that a spike is dropped, in [0, 1)."""
    mask: str = "held"
    """``held`` over time or drawn for each ``step``."""


def scan_of(
    x_TBN: Tensor,
    constants: Constants,
    neuron: str,
    options: NeuronOptions,
    norm: tuple[Tensor, Tensor] | None = None,
    dropout: Dropout | None = None,
    coefficients: Sequence[Tensor] | None = None,
) -> Scan:
    """The Scan of the arguments of ``reference.lif``: samples in one axis, every per-neuron value
    (N,) in float32 beside ``x_TBN``. Differentiable. ``coefficients``: what the entry makes of the
    constants, if that is known.
    """
    o, d = options, dropout
    entry = NEURONS[neuron]
    assert entry.coefficients and o.alpha  # why_not_compiled has seen to the first
    if coefficients is None:
        near = {name: beside(x_TBN, c) for name, c in constants.items()}
        coefficients = entry.coefficients(near, o)
    scale, shift = (None, None) if norm is None else (per_neuron(p, x_TBN) for p in norm)
    return Scan(
        *(samples(x_TBN, 1), scale, shift),
        [per_neuron(c, x_TBN) for c in coefficients],
        d.seed if d else None,
        *(neuron, o.v_threshold, potential_at_rest(o), o.reset, o.detach_reset),
        *(o.detach_state, o.surrogate, o.alpha),
        *((d.p, d.mask) if d else (0.0, "held")),
    )


def samples(x: Tensor, start: int) -> Tensor:
    """All axes from ``start`` on but the last as one axis of samples."""
    return (x if x.ndim == start + 2 else x.flatten(start, -2)).contiguous()


def beside(x_TBN: Tensor, c: Tensor | float) -> Tensor:
    """A constant as a tensor; a number is written where ``x_TBN`` lies. (A tensor made on the CPU
    would have to be copied, at every call, and a CUDA graph cannot record that copy.)
    """
    return c if torch.is_tensor(c) else torch.full((), c, dtype=torch.float32, device=x_TBN.device)


def per_neuron(c: Tensor, x_TBN: Tensor) -> Tensor:
    """One float32 value per neuron, (N,), beside ``x_TBN``."""
    if c.shape == x_TBN.shape[-1:] and c.dtype == torch.float32 and c.device == x_TBN.device:
        return c.contiguous()
    return c.to(x_TBN.device, torch.float32).expand(x_TBN.shape[-1]).contiguous()


@cache
def decay_of(tau: float) -> float:
    """``1 - 1/tau`` rounded as float32 tensors round it, for kernels that take a number."""
    one = np.float32(1)
    return float(one - one / np.float32(tau))
