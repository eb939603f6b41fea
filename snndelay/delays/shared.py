"""Linear layers whose synapses share delays: those of an axon, of a dendrite, or all of them.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..parts import scanned
from . import base
from .axonal import AxonalDelay
from .synaptic import DelayLinear

SHARED = ("axonal", "dendritic", "common", "hybrid")


class SharedDelayLinear(nn.Module):
    """Linear layer with fewer delays than synapses, made of delays of channels around a product, so
    that it costs about as much as a layer without delays.

        axonal     y[t, n] = sum_c w[n, c] x[t - d_c, c]            one delay per input
        dendritic  y[t, n] = sum_c w[n, c] x[t - d_n, c]            one per neuron
        common     y[t, n] = sum_c w[n, c] x[t - d, c]              one per layer
        hybrid     y[t, n] = sum_c w[n, c] x[t - d_c - f_nc, c]     one per input, which is learned,
                                                                    and a fixed one per synapse

    Its parts are ``axon`` and ``dendrite`` (``AxonalDelay`` or None) and ``synapses`` (a linear
    layer, of ``hybrid`` a ``DelayLinear`` with fixed delays); positions, widths, rounding, clamping
    and loading are theirs. Together they reach back K - 1 steps at most: of ``hybrid`` the axon has
    (K + 1) // 2 taps and the synapses the others.

    Args:
        n_in, n_out: input channels C and neurons N.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps.
        kind: ``axonal``, ``dendritic``, ``common`` or ``hybrid``.
        delays: ``learned``, ``fixed``, ``frozen`` or ``none`` (no delays at all), see
            ``DelayLinear``.
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        sigma: initial width SIG in steps; None: K // 2. A buffer.
        extra_steps: how many steps the output outlasts the input; (K-1)//2 as published, 0 for
            streams.
        bias: adds a learned current per neuron (N,), 0 at the start.
        backend: backend of the ops.

    Shapes: ``forward`` (T, B, C) -> (T + extra_steps, B, N) in the dtype of its input (under
    autocast in that of torch's linear layers). The bias of a dendritic layer is not delayed.

    Raises:
        ValueError: an unknown word, or sizes below 1.

    Source: the kinds of arXiv 2602.09746 (axonal and dendritic) on the taps of Hammouamri et al.
    2024 (arXiv 2306.17670), section 3.2.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        max_delay_steps: int = 25,
        *,
        kind: str = "axonal",
        delays: str = "learned",
        version: str = "gauss",
        sigma: float | None = None,
        extra_steps: int = 0,
        bias: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        if kind not in SHARED:
            raise ValueError(f"kind must be one of {', '.join(SHARED)}, not {kind!r}")
        sizes = dict(n_in=n_in, n_out=n_out, max_delay_steps=max_delay_steps)
        base.check(delays, version, **sizes)
        if extra_steps < 0:
            raise ValueError(f"extra_steps must be at least 0, not {extra_steps}")
        K = 1 if delays == "none" else max_delay_steps
        self.kind, self.delays, self.max_delay_steps = kind, delays, K
        self.n_out, self.extra_steps, self.backend = n_out, extra_steps, backend
        how: dict[str, Any] = dict(delays=delays, version=version, sigma=sigma, backend=backend)
        # fewer columns to delay where there is a choice
        before = kind in ("axonal", "hybrid") or (kind == "common" and n_in <= n_out)
        n = 1 if kind == "common" else n_in if before else n_out
        K_axon = (K + 1) // 2 if kind == "hybrid" else K
        delay = None if delays == "none" else AxonalDelay(n, K_axon, extra_steps=extra_steps, **how)
        self.axon = delay if before else None
        if kind == "hybrid" and delays != "none":
            fixed = dict(delays="fixed", backend=backend)
            self.synapses = DelayLinear(n_in, n_out, K + 1 - K_axon, **fixed)
        else:
            self.synapses = nn.Linear(n_in, n_out, bias=False)
        self.dendrite = None if before else delay
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        bound = math.sqrt(6 / n_in)  # kaiming-uniform for relu, as in DelayLinear
        nn.init.uniform_(self.synapses.weight, -bound, bound)

    @property
    def weight(self) -> Tensor:
        """(N, C), or (1, N, C) of ``hybrid``."""
        return self.synapses.weight

    @property
    def rounded(self) -> bool | None:
        """That of its delays; setting it sets theirs."""
        return next((part.rounded for part in self._delayed()), None)

    @rounded.setter
    def rounded(self, value: bool | None) -> None:
        for part in self._delayed():
            part.rounded = value

    def _delayed(self) -> list[Any]:
        parts = (self.axon, self.synapses, self.dendrite)
        return [part for part in parts if isinstance(part, AxonalDelay | DelayLinear)]

    @property
    def delay_steps(self) -> Tensor:
        """Delay of every synapse in steps, not rounded, (N, C) as far as it differs: (C,) of axons,
        (N, 1) of dendrites, (1,) for all."""
        steps: Any = torch.zeros(1, device=self.weight.device)
        if self.axon is not None:
            steps = self.axon.delay_steps
        if isinstance(self.synapses, DelayLinear):
            steps = steps + self.synapses.delay_steps[0]
        if self.dendrite is not None:
            steps = self.dendrite.delay_steps
            steps = steps if len(steps) == 1 else steps[:, None]
        return steps

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Input current of the neurons, (T, B, C) -> (T + extra_steps, B, N)."""
        for part in (self.axon, self.synapses, self.dendrite):
            x_TBC = x_TBC if part is None else part(x_TBC)
        if self.extra_steps and self.delays == "none":
            x_TBC = torch.cat([x_TBC, x_TBC.new_zeros(self.extra_steps, *x_TBC.shape[1:])])
        return x_TBC if self.bias is None else x_TBC + self.bias.to(x_TBC.dtype)

    def scan(self, x_TBC: Tensor, history: tuple | None = None) -> tuple[Tensor, tuple]:
        """Like ``forward``, carrying on after ``history``, what the last call returned (None:
        silence).

        Raises:
            ValueError: the layer has ``extra_steps``, so chunks would overlap.
        """
        base.refuse_chunks(self)
        after, before = [], history or (None, None, None)
        for part, past in zip((self.axon, self.synapses, self.dendrite), before, strict=True):
            if isinstance(part, AxonalDelay | DelayLinear):
                x_TBC, past = scanned(part, x_TBC, past)
            elif part is not None:
                x_TBC = part(x_TBC)
            after.append(past)
        return x_TBC if self.bias is None else x_TBC + self.bias.to(x_TBC.dtype), tuple(after)

    def clamp_(self) -> None:
        """Puts all positions back onto their windows."""
        for part in self._delayed():
            part.clamp_()

    def extra_repr(self) -> str:
        return f"kind={self.kind}, max_delay_steps={self.max_delay_steps}, delays={self.delays}"
