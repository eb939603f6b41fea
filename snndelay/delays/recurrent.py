"""Recurrent synapses: a weight between any two neurons of a layer, and delays of axons or synapses.

Legend: N neurons, K delay taps. Index m sends and n receives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..kernels import Synapses, delay_taps
from ..kernels.delay import VERSIONS
from . import base
from .base import whole

RECURRENT_KINDS = ("axonal", "synaptic")
RECURRENT_VERSIONS = (*VERSIONS, "triangle")
LEAST = 1e-20  # share of a tap; a smaller one is 0


class RecurrentDelay(nn.Module):
    """Weights W[n, m] from neuron m to n of a layer, and when a spike is heard: 1 + d steps later.

    While training, a delay spreads over the K taps as ``version`` says; in ``.eval()`` positions
    are rounded, without touching the parameters. ``triangle`` is that of DelRec,

        k_i = max(0, 1 + SIG - |d - d_i|) / (1 + SIG)^2        d_i = K - 1 - i, the delay of tap i

    whose mass before the next step is lost; so is, here, what lies beyond d = K - 1.

    Args:
        n_neurons: N.
        max_delay_steps: K, the number of taps; delays d lie in 0..K-1 steps.
        delays: ``learned``, ``fixed``, ``frozen`` or ``none`` (every spike is heard at the next
            step), see ``DelayLinear``.
        kind: ``axonal``, one delay per sending neuron; ``synaptic``, one per synapse.
        version: ``triangle``, or as for ``DelayLinear``, whose taps sum to 1 within the window.
        sigma: initial width SIG in steps; None: K // 2. A buffer. Published: 10, times 0.95^(100 /
            epochs) per epoch.
        delay_std: None: delays are drawn uniformly over the window; a number: as |N(0, delay_std)|
            steps, cut at K - 1.
        gain: of the weights, which are drawn orthogonal.

    Shapes: ``weight`` (N, N); ``position`` (N,) or (N, N), see ``delays.base``.

    Raises:
        ConfigError: an unknown kind.
        ValueError: an unknown ``delays`` or ``version``, sizes below 1 or a negative ``delay_std``.

    Source: Queant et al. 2025 (arXiv 2509.24852).
    """

    def __init__(
        self,
        n_neurons: int,
        max_delay_steps: int = 25,
        *,
        delays: str = "learned",
        kind: str = "axonal",
        version: str = "triangle",
        sigma: float | None = None,
        delay_std: float | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        if kind not in RECURRENT_KINDS:
            raise ConfigError(
                f"recurrent delays are axonal or synaptic, not {kind!r}: "
                f"{nearest(kind, RECURRENT_KINDS)}"
            )
        sizes = dict(n_neurons=n_neurons, max_delay_steps=max_delay_steps)
        base.check(delays, version, RECURRENT_VERSIONS, **sizes)
        if delay_std is not None and not delay_std >= 0:
            raise ValueError(f"delay_std must be at least 0 steps, not {delay_std}")
        self.max_delay_steps = 1 if delays == "none" else max_delay_steps
        self.delays, self.kind, self.version = delays, kind, version
        self.delay_std, self.gain = delay_std, gain
        self.rounded: bool | None = None  # None: rounded exactly when not training
        self.weight = nn.Parameter(torch.empty(n_neurons, n_neurons))
        base.hold_positions(self, *(n_neurons,) * (2 if kind == "synaptic" else 1))
        width = float(self.max_delay_steps // 2 if sigma is None else sigma)
        self.register_buffer("sigma", torch.tensor(width))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights and delays."""
        if not self.weight.is_meta:
            nn.init.orthogonal_(self.weight, self.gain)
        if self.delay_std is None:
            return base.draw_positions(self, *base.window(self.max_delay_steps))
        delay = self.position.normal_().abs_() * self.delay_std
        position = self.max_delay_steps - 1 - self.max_delay_steps // 2 - delay
        self.position.copy_(position.round() if self.delays == "fixed" else position)
        self.clamp_()

    delay_steps, clamp_ = property(base.delay_steps), base.clamp_
    get_extra_state = base.extra_state  # pyright: ignore[reportAssignmentType]
    _load_from_state_dict = base.load  # pyright: ignore[reportAssignmentType]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: ``load_state_dict`` has compared it."""

    train = base.train  # pyright: ignore[reportAssignmentType] (any kind of layer)

    def taps(self) -> Tensor:
        """Share of each tap, shaped like ``position`` and (K,) more; one-hot where the positions
        are rounded."""
        K, position = self.max_delay_steps, self.position
        assert isinstance(position, Tensor)
        shape, steps = position.shape, torch.arange(K, device=position.device)
        if base.rounds(self) or whole(self):
            place = (position.detach().round().long() + K // 2).clamp(0, K - 1)
            return (place.unsqueeze(-1) == steps).to(self.weight.dtype)
        if self.version == "triangle":
            width = 1 + self.sigma.abs()
            return torch.relu(width - (steps - K // 2 - position.unsqueeze(-1)).abs()) / width**2
        p_1NN = position.view(1, -1, shape[-1])
        synapses = Synapses(torch.ones_like(p_1NN), p_1NN, self.sigma, K, self.version)
        # far from a narrow tap gauss is subnormal, with which a CPU computes slowly
        return F.threshold(delay_taps(synapses).view(*shape, K), LEAST, 0.0)

    def forward(self) -> tuple[Tensor, Tensor | None]:
        """Weights and taps as ``kernels.recurrent_lif`` takes them."""
        if self.delays == "none":
            return self.weight, None
        if self.kind == "axonal":
            return self.weight, self.taps()
        return self.weight.unsqueeze(-1) * self.taps(), None

    def extra_repr(self) -> str:
        return (
            f"{len(self.weight)}, max_delay_steps={self.max_delay_steps}, delays={self.delays}, "
            f"{self.kind}, version={self.version}"
        )
