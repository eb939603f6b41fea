"""Layers of delays, one class per kind.

What all kinds do alike stands first, as functions that each class takes over. A kind has
``position`` (P, in steps from the middle of the window), ``sigma`` (width SIG in steps),
``max_delay_steps`` (K), ``version`` (shape of the taps), ``delays`` and ``rounded``. While it
trains it spreads over the K taps; in ``.eval()`` its positions are rounded, without touching the
parameters, unless ``rounded`` says otherwise. To add a kind, write its class and list it in KINDS.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from . import dcls, turning
from .kernels import Synapses, delay_integer, delay_linear, delay_taps
from .kernels.delay import VERSIONS

EXTRA = "_extra_state"  # torch's name for it in a state dict
DELAYS = ("learned", "fixed", "frozen", "none")

# -- what every kind of delay does alike ---
#
# delays="learned": positions are trained. Controls: "fixed", as published, random whole steps and
# one tap from the start; "frozen", real positions under taps that narrow as learned; "none": K 1.


def _window(K: int) -> tuple[int, int]:
    """Lowest and highest position. Even K: ``Dcls1d`` allows one more, where no tap is."""
    return -(K // 2), K - 1 - K // 2


def _delay_steps(layer: Any) -> Tensor:
    """Delays in steps, shaped like ``position``, not rounded: ``K - 1 - (K//2 + P)``."""
    K = layer.max_delay_steps
    return K - 1 - (K // 2 + layer.position.detach())


@torch.no_grad()
def _clamp_(layer: Any) -> None:
    """Puts the positions back onto the window, [-(K//2), K-1-K//2]; call it after every optimizer
    step.
    """
    layer.position.clamp_(*_window(layer.max_delay_steps))


def _rounds(layer: Any) -> bool:
    """Whether the layer now runs on rounded delays."""
    return not layer.training if layer.rounded is None else layer.rounded


def _train(layer: Any, mode: bool = True) -> Any:
    """As ``nn.Module.train``; a layer that turns to evaluation says where that differs from what
    it was trained on.
    """
    if layer.training and not mode and layer.rounded is None and not layer.sigma.is_meta:
        K = layer.max_delay_steps
        has_width = K > 1 and layer.version in ("gauss", "max") and not whole(layer)
        turning.warn(layer, *_window(K), has_width)
    return nn.Module.train(layer, mode)


def _extra_state(layer: Any) -> Tensor:
    """K: positions are counted from the middle of the window, so they mean nothing without it."""
    return torch.tensor(layer.max_delay_steps, device="cpu")


def _load(layer: Any, state: dict, prefix: str, *how: Any) -> None:
    """As ``nn.Module``'s, but positions of another K are refused; of older files it is unknown."""
    *_, missing, _, errors = how
    key, K = prefix + EXTRA, layer.max_delay_steps
    other = int(state[key]) if key in state else K
    if other != K:
        errors.append(
            f"{prefix}position counts from the middle of {other} taps, and this layer has {K}: "
            f"build it with max_delay_steps={other}"
        )
        return
    nn.Module._load_from_state_dict(layer, state, prefix, *how)
    if key in missing:
        missing.remove(key)


def _check(delays: str, version: str, **sizes: int) -> None:
    """ValueError for an unknown word or a size below 1."""
    for name, word, choices in (("delays", delays, DELAYS), ("version", version, VERSIONS)):
        if word not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {word!r}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def _hold_positions(layer: Any, *shape: int) -> None:
    """Registers ``position``, not yet drawn: a parameter, or a buffer where it is not learned."""
    if layer.delays == "learned":
        layer.position = nn.Parameter(torch.empty(shape))
    else:
        layer.register_buffer("position", torch.empty(shape), persistent=layer.delays != "none")


@torch.no_grad()
def _draw_positions(layer: Any, low: float, high: float) -> None:
    """Uniform positions within the window, whole ones where they stay as they are drawn."""
    layer.position.uniform_(low, high)
    if layer.delays == "fixed":
        layer.position.round_()
    layer.clamp_()


def whole(layer: Any) -> bool:
    """Whether a layer's delays are whole steps even while it trains, so that no tap has a width."""
    return layer.delays in ("fixed", "none")


# -- kinds ---


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
        _check(delays, version, max_delay_steps=max_delay_steps, **sizes)
        if extra_steps < 0:
            raise ValueError(f"extra_steps must be at least 0, not {extra_steps}")
        self.max_delay_steps = 1 if delays == "none" else max_delay_steps
        self.delays, self.version = delays, version
        self.extra_steps, self.backend = extra_steps, backend
        self.rounded: bool | None = None  # None: rounded exactly when not training
        shape = (kernel_count, n_out, n_in)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(n_out)) if bias else None
        _hold_positions(self, *shape)
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
        _draw_positions(self, -K // 2, K // 2) if K > 1 else self.position.zero_()

    delay_steps, clamp_ = property(_delay_steps), _clamp_
    get_extra_state = _extra_state  # pyright: ignore[reportAssignmentType]
    _load_from_state_dict = _load  # pyright: ignore[reportAssignmentType]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: ``load_state_dict`` has compared it."""

    train = _train  # pyright: ignore[reportAssignmentType] (any kind of layer)

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
            return self.position.round().clamp(*_window(self.max_delay_steps))
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
        K, position, sigma, version = self.max_delay_steps, self._place(), self.sigma, self.version
        if _rounds(self) or whole(self):
            position = position.round().clamp(*_window(K))
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


class AxonalDelay(nn.Module):
    """One learned delay per channel: ``y[t] = sum_i k_i x[t - (K-1) + i]``, the taps k of
    ``kernels.delay_taps`` with weight 1.

    While training, a channel spreads over the K taps as ``version`` says; in ``.eval()`` its
    position is rounded and it is shifted by whole steps, without touching the parameters.

    Args:
        channels: C.
        max_delay_steps: K, the number of taps; delays lie in 0..K-1 steps.
        delays: ``learned``, ``fixed`` or ``frozen``, see ``DelayLinear``.
        version: ``gauss``, ``max``, ``v1`` or ``v0``, see ``kernels.delay_taps``.
        sigma: initial width SIG in steps; None: K // 2. A buffer.

    Shapes: ``position`` (C,); ``forward`` (T, B, C, H, W) -> the same.

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
    ):
        super().__init__()
        if delays == "none":
            raise ValueError("an axonal delay has a position: for delays none leave the layer out")
        _check(delays, version, channels=channels, max_delay_steps=max_delay_steps)
        K = max_delay_steps
        self.max_delay_steps, self.delays, self.version = K, delays, version
        self.rounded: bool | None = None  # None: rounded exactly when not training
        _hold_positions(self, channels)
        _draw_positions(self, *_window(K))
        self.register_buffer("sigma", torch.tensor(float(K // 2 if sigma is None else sigma)))

    delay_steps, clamp_ = property(_delay_steps), _clamp_
    get_extra_state = _extra_state  # pyright: ignore[reportAssignmentType]
    _load_from_state_dict = _load  # pyright: ignore[reportAssignmentType]

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing: ``load_state_dict`` has compared it."""

    train = _train  # pyright: ignore[reportAssignmentType] (any kind of layer)

    def taps(self) -> Tensor:
        """Share of each tap, (C, K); one-hot where the positions are rounded."""
        K, position = self.max_delay_steps, self.position
        if not (_rounds(self) or whole(self)):
            p_11C = position.view(1, 1, -1)
            synapses = Synapses(torch.ones_like(p_11C), p_11C, self.sigma, K, self.version)
            return delay_taps(synapses)[0]
        place = (position.detach().round().long() + K // 2).clamp(0, K - 1)
        steps = torch.arange(K, device=place.device)  # one_hot looks at the values
        return (place[:, None] == steps).to(position.dtype)

    def forward(self, x_TBCHW: Tensor) -> Tensor:
        """The input, delayed; zero before t = 0."""
        return self.scan(x_TBCHW)[0]

    def scan(self, x_TBCHW: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like ``forward``, carrying on after ``history``, the K - 1 inputs before ``x`` as (K - 1,
        B, H, W, C) (None: silence). Returns the history for the next chunk as well.
        """
        x_TBHWC = x_TBCHW.permute(0, 1, 3, 4, 2)
        T, K = len(x_TBHWC), self.max_delay_steps
        if history is None:
            history = x_TBHWC.new_zeros(K - 1, *x_TBHWC.shape[1:])
        x_TBHWC = torch.cat([history, x_TBHWC])
        first, *taps = self.taps().to(x_TBHWC.dtype).unbind(1)
        y_TBHWC = x_TBHWC[:T] * first
        for i, tap_C in enumerate(taps, 1):
            y_TBHWC = torch.addcmul(y_TBHWC, x_TBHWC[i : i + T], tap_C)
        return y_TBHWC.permute(0, 1, 4, 2, 3), x_TBHWC[T:]

    def extra_repr(self) -> str:
        return (
            f"{len(self.position)}, max_delay_steps={self.max_delay_steps}, version={self.version}"
        )


KINDS = (DelayLinear, AxonalDelay)
