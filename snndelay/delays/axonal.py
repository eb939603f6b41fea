"""Delays of channels: of the axons that bring spikes, or of the dendrites that take a current.

Legend: T time steps, B batch, C channels, H rows, W columns, K delay taps.
"""

import torch
from torch import Tensor, nn

from ..kernels import Synapses, delay_depthwise, delay_taps
from . import base
from .base import whole


class AxonalDelay(nn.Module):
    """One learned delay per channel: ``y[t] = sum_i k_i x[t - (K-1) + i]``, the taps k of
    ``kernels.delay_taps`` with weight 1.

    While training, a channel spreads over the K taps as ``version`` says; in ``.eval()`` its
    position is rounded and it is shifted by whole steps, without touching the parameters.

    Args:
        channels: C; 1: one delay for any number of channels.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps.
        delays: ``learned``, ``fixed`` or ``frozen``, see ``DelayLinear``.
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        sigma: initial width SIG in steps; None: K // 2. A buffer.
        extra_steps: how many steps the output outlasts the input, 0 for streams.
        backend: backend of the op, see ``kernels.delay_depthwise``.

    Shapes: ``position`` (C,); ``forward`` (T, B, C) or (T, B, C, H, W) -> the same, T +
    extra_steps steps.

    Raises:
        ValueError: an unknown ``version``, or sizes below 1.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.2, with one delay per axon.
    """

    def __init__(
        self,
        channels: int,
        max_delay_steps: int,
        *,
        delays: str = "learned",
        version: str = "gauss",
        sigma: float | None = None,
        extra_steps: int = 0,
        backend: str = "auto",
    ):
        super().__init__()
        if delays == "none":
            raise ValueError("an axonal delay has a position: for delays none leave the layer out")
        base.check(delays, version, channels=channels, max_delay_steps=max_delay_steps)
        K = max_delay_steps
        self.max_delay_steps, self.delays, self.version = K, delays, version
        self.extra_steps, self.backend = extra_steps, backend
        self.rounded: bool | None = None  # None: rounded exactly when not training
        base.hold_positions(self, channels)
        base.draw_positions(self, *base.window(K))
        self.register_buffer("sigma", torch.tensor(float(K // 2 if sigma is None else sigma)))

    delay_steps, clamp_ = property(base.delay_steps), base.clamp_
    get_extra_state = base.extra_state  # pyright: ignore[reportAssignmentType]
    _load_from_state_dict = base.load  # pyright: ignore[reportAssignmentType]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: ``load_state_dict`` has compared it."""

    train = base.train  # pyright: ignore[reportAssignmentType] (any kind of layer)

    def taps(self) -> Tensor:
        """Share of each tap, (C, K); one-hot where the positions are rounded."""
        K, position = self.max_delay_steps, self.position
        if not (base.rounds(self) or whole(self)):
            p_11C = position.view(1, 1, -1)
            synapses = Synapses(torch.ones_like(p_11C), p_11C, self.sigma, K, self.version)
            return delay_taps(synapses)[0]
        place = (position.detach().round().long() + K // 2).clamp(0, K - 1)
        steps = torch.arange(K, device=place.device)  # one_hot looks at the values
        return (place[:, None] == steps).to(position.dtype)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """The input, delayed; zero before t = 0."""
        return self._delayed(x_TBC)

    def _delayed(self, x_TBC: Tensor) -> Tensor:
        x_TBC = x_TBC.movedim(2, -1)
        y_TBC = delay_depthwise(x_TBC, self.taps(), self.extra_steps, self.backend)
        return y_TBC.movedim(-1, 2)

    def scan(self, x_TBC: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like ``forward``, carrying on after ``history``, the K - 1 inputs before ``x`` (None:
        silence). Returns the history for the next chunk as well.

        Raises:
            ValueError: the layer has ``extra_steps``, so chunks would overlap.
        """
        return base.scan(self, self._delayed, x_TBC, history)

    def extra_repr(self) -> str:
        return (
            f"{len(self.position)}, max_delay_steps={self.max_delay_steps}, version={self.version}"
        )
