"""Synaptic delays: one for each synapse.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import dcls
from ..kernels import Synapses, delay_integer, delay_linear
from . import base
from .base import whole


class DelayLinear(nn.Module):
    """Linear layer whose synapses have a weight and a delay: ``y[t] = sum_c sum_i k_i x[t - (K-1) +
    i]``.

    While training, a synapse spreads over the K taps as ``version`` says; in ``.eval()`` its
    position is rounded and it is one exact integer tap, without touching the parameters
    (``rounded`` overrides that).

    Args:
        n_in, n_out: input channels C and neurons N.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps. Odd K keeps the middle
            tap at P = 0.
        delays: ``learned``; ``fixed``, random whole steps and one tap, also while training, the
            published control; ``frozen``, random real positions whose taps narrow as those of
            learned ones; ``none`` (K = 1, no positions). Positions not learned are a buffer.
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        kernel_count: elements E per synapse.
        sigma: initial width SIG in steps of every synapse; None: K // 2. A buffer, see
            ``learn_sigma``.
        learn_sigma: makes ``sigma`` a parameter with one value per synapse and element.
        extra_steps: how many steps the output outlasts the input; (K-1)//2 as published, 0 for
            streams.
        bias: adds a learned current per neuron (N,) at every step, 0 at the start.
        backend: backend of the op, see ``kernels.delay_linear``.

    ``reset_parameters`` draws anew. Initialisers of torch misread the fan-in of (E, N, C): with one
    element hand them ``weight[0]``, (N, C). After every optimizer step call ``clamp_``.

    Shapes: ``weight``, ``position`` (E, N, C); ``forward`` (T, B, C) -> (T + extra_steps, B, N), in
    the dtype of its input, under autocast too.

    Raises:
        ValueError: an unknown ``delays`` or ``version``, or sizes below 1.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        max_delay_steps: int = 25,
        *,
        delays: str = "learned",
        version: str = "gauss",
        kernel_count: int = 1,
        sigma: float | None = None,
        learn_sigma: bool = False,
        extra_steps: int = 0,
        bias: bool = False,
        backend: str = "auto",
    ):
        super().__init__()
        sizes = dict(n_in=n_in, n_out=n_out, kernel_count=kernel_count)
        base.check(delays, version, max_delay_steps=max_delay_steps, **sizes)
        if extra_steps < 0:
            raise ValueError(f"extra_steps must be at least 0, not {extra_steps}")
        self.max_delay_steps = 1 if delays == "none" else max_delay_steps
        self.delays, self.version = delays, version
        self.extra_steps, self.backend = extra_steps, backend
        self.rounded: bool | None = None  # None: rounded exactly when not training
        shape = (kernel_count, n_out, n_in)
        self.n_out = n_out
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(n_out)) if bias else None
        base.hold_positions(self, *shape)
        width = float(self.max_delay_steps // 2 if sigma is None else sigma)
        if learn_sigma and not whole(self):
            self.sigma = nn.Parameter(torch.full(shape, width))
        else:
            self.register_buffer("sigma", torch.tensor(width))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights (kaiming-uniform for relu) and positions as published.

        Positions are U(-K // 2, K // 2) in Python's sense, -13 to 12 for K = 25, then clamped: the
        longest delay is drawn more often than any other.
        """
        E, _, C = self.weight.shape
        bound = math.sqrt(6 / (C * E))
        self.weight.uniform_(-bound, bound)
        if self.bias is not None:
            self.bias.zero_()
        K = self.max_delay_steps
        base.draw_positions(self, -K // 2, K // 2) if K > 1 else self.position.zero_()

    delay_steps, clamp_ = property(base.delay_steps), base.clamp_
    get_extra_state = base.extra_state  # pyright: ignore[reportAssignmentType]
    _load_from_state_dict = base.load  # pyright: ignore[reportAssignmentType]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: ``load_state_dict`` has compared it."""

    train = base.train  # pyright: ignore[reportAssignmentType] (any kind of layer)

    @property
    def synapses(self) -> Synapses:
        """Weights and delays as they are trained, for the ops."""
        sigma, version = self.sigma, self.version
        if whole(self):
            sigma, version = torch.zeros_like(sigma), "max"  # one exact tap per element
        return Synapses(self.weight, self._place(), sigma, self.max_delay_steps, version)

    def _place(self) -> Any:
        # without delays it is not in the state dict, so Module.to_empty would leave it to chance
        if self.delays == "none":
            return torch.zeros_like(self.position)
        if whole(self):  # those of a learned layer, say, may have been loaded
            return self.position.round().clamp(*base.window(self.max_delay_steps))
        return self.position

    @torch.no_grad()
    def round_(self) -> None:
        """Clamps and rounds the positions for good (``.eval()`` rounds on the fly and leaves them
        alone).
        """
        self.clamp_()
        self.position.round_()

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Input current of the neurons, (T, B, C) -> (T + extra_steps, B, N)."""
        return self._current(x_TBC)

    def _current(self, x_TBC: Tensor) -> Tensor:
        K, position, sigma, version = self.max_delay_steps, self._place(), self.sigma, self.version
        if base.rounds(self) or whole(self):
            position = position.round().clamp(*base.window(K))
            if not (torch.is_grad_enabled() and (x_TBC.requires_grad or self.weight.requires_grad)):
                delay = K - 1 - K // 2 - position.to(torch.int32)
                how = (delay, K, self.extra_steps, self.backend)
                return self._biased(delay_integer(x_TBC, self.weight, *how))
            sigma, version = torch.zeros_like(sigma), "max"  # one exact integer tap per synapse
        synapses = Synapses(self.weight, position, sigma, K, version)
        return self._biased(delay_linear(x_TBC, synapses, self.extra_steps, self.backend))

    def _biased(self, y_TBN: Tensor) -> Tensor:
        return y_TBN if self.bias is None else y_TBN + self.bias.to(y_TBN.dtype)

    def scan(self, x_TBC: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like ``forward``, carrying on after ``history``, the K - 1 inputs before ``x`` (None:
        silence).

        Returns:
            (T, B, N) and the history for the next chunk, (K - 1, B, C).

        Raises:
            ValueError: the layer has ``extra_steps``, so chunks would overlap.
        """
        return base.scan(self, self._current, x_TBC, history)

    @classmethod
    def from_dcls(cls, module: Any, **options) -> "DelayLinear":
        """Copies a ``Dcls1d`` (whose input the caller pads left by K - 1) into a new layer.

        Weight, positions, widths and bias keep their type, device and whether they are trained;
        the layer is in the mode of the module. Widths that are not trained are a buffer, ().

        Args:
            module: a ``DCLS.construct.modules.Dcls1d`` with groups 1, stride 1, padding 0.
            options: further arguments of ``DelayLinear`` (``extra_steps``, ``backend``).

        Raises:
            ValueError: the module has something that a delay layer has not.
        """
        return dcls.layer_of(cls, module, **options)

    def to_dcls(self) -> nn.Module:
        """The same synapses as a ``Dcls1d`` (package ``dcls``, extra ``peers``), trained or not as
        they are here; pad its input left by K - 1.

        Delays ``fixed`` become one exact tap: version ``max`` with SIG 0.

        Raises:
            ImportError: the package ``dcls`` is missing.
        """
        return dcls.dcls_of(self)

    def extra_repr(self) -> str:
        E, N, C = self.weight.shape
        return (
            f"{C}, {N}, max_delay_steps={self.max_delay_steps}, delays={self.delays}, "
            f"version={self.version} x {E}"
        )
