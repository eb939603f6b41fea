"""Synapses with delays, as a layer.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .kernels import Synapses, delay_integer, delay_linear
from .kernels.delay import VERSIONS

if TYPE_CHECKING:
    from DCLS.construct.modules import Dcls1d

DELAYS = ("learned", "fixed", "none")


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
        delays: ``learned``; ``fixed`` random positions (a buffer); ``none`` (K = 1, no positions).
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        kernel_count: elements E per synapse.
        sigma: initial width SIG in steps of every synapse; None: K // 2. A buffer, see
            ``learn_sigma``.
        learn_sigma: makes ``sigma`` a parameter with one value per synapse and element.
        extra_steps: how many steps the output outlasts the input; (K-1)//2 as published, 0 for
            streams.
        backend: backend of the op, see ``kernels.delay_linear``.

    Shapes: ``weight``, ``position`` (E, N, C); ``forward`` (T, B, C) -> (T + extra_steps, B, N).

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
        backend: str = "auto",
    ):
        super().__init__()
        if delays not in DELAYS:
            raise ValueError(f"delays must be one of {', '.join(DELAYS)}, not {delays!r}")
        if version not in VERSIONS:
            raise ValueError(f"version must be one of {', '.join(VERSIONS)}, not {version!r}")
        if min(n_in, n_out, max_delay_steps, kernel_count) < 1 or extra_steps < 0:
            raise ValueError(
                "n_in, n_out, max_delay_steps and kernel_count must be at least 1, and "
                f"extra_steps at least 0, not {n_in, n_out, max_delay_steps, kernel_count} "
                f"and {extra_steps}"
            )
        self.max_delay_steps = 1 if delays == "none" else max_delay_steps
        self.delays, self.version, self.extra_steps, self.backend = (
            delays,
            version,
            extra_steps,
            backend,
        )
        self.rounded: bool | None = None  # None: rounded exactly when not training
        shape = (kernel_count, n_out, n_in)
        self.weight = nn.Parameter(torch.empty(shape))
        if delays == "learned":
            self.position = nn.Parameter(torch.empty(shape))
        else:
            self.register_buffer("position", torch.empty(shape), persistent=delays == "fixed")
        width = float(self.max_delay_steps // 2 if sigma is None else sigma)
        if learn_sigma and delays != "none":  # a single tap has no width
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
        K = self.max_delay_steps
        self.position.uniform_(-K // 2, K // 2) if K > 1 else self.position.zero_()
        self.clamp_()

    @property
    def delay_steps(self) -> Tensor:
        """Delay of every synapse in steps, (E, N, C), not rounded: ``K - 1 - (K//2 + P)``."""
        K = self.max_delay_steps
        return K - 1 - (K // 2 + self.position.detach())

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts the positions back onto the window, [-(K//2), K-1-K//2]; call it after every
        optimizer step. (Even K: Dcls1d allows one more, outside the window, where no tap is.)
        """
        self.position.clamp_(*self._window)

    @property
    def _window(self) -> tuple[int, int]:
        K = self.max_delay_steps
        return -(K // 2), K - 1 - K // 2

    @torch.no_grad()
    def round_(self) -> None:
        """Clamps and rounds the positions for good (``.eval()`` rounds on the fly and leaves them
        alone).
        """
        self.clamp_()
        self.position.round_()

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Input current of the neurons, (T, B, C) -> (T + extra_steps, B, N)."""
        rounded = not self.training if self.rounded is None else self.rounded
        K, position, sigma, version = self.max_delay_steps, self.position, self.sigma, self.version
        if rounded or self.delays == "none":
            position = position.round().clamp(*self._window)
            if not (torch.is_grad_enabled() and (x_TBC.requires_grad or self.weight.requires_grad)):
                delay = K - 1 - K // 2 - position.to(torch.int32)
                return delay_integer(x_TBC, self.weight, delay, K, self.extra_steps, self.backend)
            sigma, version = torch.zeros_like(sigma), "max"  # one exact integer tap per synapse
        synapses = Synapses(self.weight, position, sigma, K, version)
        return delay_linear(x_TBC, synapses, self.extra_steps, self.backend)

    def scan(self, x_TBC: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like ``forward``, carrying on after ``history``, the K - 1 inputs before ``x`` (None:
        silence).

        Returns:
            (T, B, N) and the history for the next chunk, (K - 1, B, C).

        Raises:
            ValueError: the layer has ``extra_steps``, so chunks would overlap.
        """
        if self.extra_steps:
            raise ValueError(
                "a delay layer with extra_steps cannot run in chunks; use extra_steps=0"
            )
        past = self.max_delay_steps - 1
        if history is None:
            history = x_TBC.new_zeros(past, *x_TBC.shape[1:])
        x_TBC = torch.cat([history, x_TBC])
        return self(x_TBC)[past:], x_TBC[x_TBC.shape[0] - past :]

    @classmethod
    def from_dcls(cls, module: "Dcls1d", **options) -> "DelayLinear":
        """Copies a ``Dcls1d`` (whose input the caller pads left by K - 1) into a new layer.

        Args:
            module: groups 1, stride 1, padding 0, no bias.
            options: further arguments of ``DelayLinear`` (``extra_steps``, ``backend``).

        Raises:
            ValueError: the module has something that a delay layer has not.
        """
        if (
            module.bias is not None
            or module.groups != 1
            or module.stride != (1,)
            or any(module.padding)
        ):
            raise ValueError(
                "only a Dcls1d with groups=1, stride=1, padding=0 and bias=False is a delay layer; "
                f"this one is {module}"
            )
        N, C, E = module.weight.shape
        K = module.dilated_kernel_size[0]
        wide = module.SIG is not None
        layer = cls(C, N, K, version=module.version, kernel_count=E, learn_sigma=wide, **options)
        with torch.no_grad():
            layer.weight.copy_(module.weight.permute(2, 0, 1))
            layer.position.copy_(module.P[0].permute(2, 0, 1))
            if wide:
                layer.sigma.copy_(module.SIG[0].permute(2, 0, 1))
        return layer

    def to_dcls(self) -> "Dcls1d":
        """The same synapses as a ``Dcls1d`` (package ``dcls``, extra ``peers``); pad its input left
        by K - 1.

        Raises:
            ImportError: the package ``dcls`` is missing.
        """
        from DCLS.construct.modules import Dcls1d

        E, N, C = self.weight.shape
        K = self.max_delay_steps
        module = Dcls1d(C, N, E, dilated_kernel_size=K, bias=False, version=self.version)
        with torch.no_grad():
            module.weight.copy_(self.weight.permute(1, 2, 0))
            module.P[0].copy_(self.position.permute(1, 2, 0))
            if module.SIG is not None:
                module.SIG[0].copy_(self.sigma.expand(E, N, C).permute(1, 2, 0))
        return module

    def extra_repr(self) -> str:
        E, N, C = self.weight.shape
        return (
            f"{C}, {N}, max_delay_steps={self.max_delay_steps}, delays={self.delays}, "
            f"version={self.version} x {E}"
        )
