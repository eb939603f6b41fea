"""What every kind of delay does alike, as functions that each class takes over.

A layer of delays has ``position`` (P, in steps from the middle of the window), ``sigma`` (width SIG
in steps), ``max_delay_steps`` (K), ``version`` (shape of the taps), ``delays`` (one of DELAYS),
``delay_steps`` and ``rounded``. While it trains it spreads over the K taps; in ``.eval()`` its
positions are rounded, without touching the parameters, unless ``rounded`` says otherwise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import turning
from ..errors import ConfigError
from ..kernels.delay import VERSIONS

EXTRA = "_extra_state"  # torch's name for it in a state dict
DELAYS = ("learned", "fixed", "frozen", "none")

# delays="learned": positions are trained. Controls: "fixed", as published, random whole steps and
# one tap from the start; "frozen", real positions under taps that narrow as learned; "none": K 1.


def window(K: int) -> tuple[int, int]:
    """Lowest and highest position. Even K: ``Dcls1d`` allows one more, where no tap is."""
    return -(K // 2), K - 1 - K // 2


def delay_steps(layer: Any) -> Tensor:
    """Delays in steps, shaped like ``position``, not rounded: ``K - 1 - (K//2 + P)``."""
    K = layer.max_delay_steps
    return K - 1 - (K // 2 + layer.position.detach())


@torch.no_grad()
def clamp_(layer: Any) -> None:
    """Puts the positions back onto the window, [-(K//2), K-1-K//2]; call it after every optimizer
    step.
    """
    layer.position.clamp_(*window(layer.max_delay_steps))


def rounds(layer: Any) -> bool:
    """Whether the layer now runs on rounded delays."""
    return not layer.training if layer.rounded is None else layer.rounded


def train(layer: Any, mode: bool = True) -> Any:
    """As ``nn.Module.train``; a layer that turns to evaluation says where that differs from what
    it was trained on.
    """
    if layer.training and not mode and layer.rounded is None and not layer.sigma.is_meta:
        K = layer.max_delay_steps
        has_width = K > 1 and layer.version not in ("v0", "v1") and not whole(layer)
        turning.warn(layer, *window(K), has_width)
    return nn.Module.train(layer, mode)


def extra_state(layer: Any) -> Tensor:
    """K: positions are counted from the middle of the window, so they mean nothing without it."""
    return torch.tensor(layer.max_delay_steps, device="cpu")


def load(layer: Any, state: dict, prefix: str, *how: Any) -> None:
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


def check(delays: str, version: str, versions: tuple[str, ...] = VERSIONS, **sizes: int) -> None:
    """ConfigError for an unknown word, ValueError for a size below 1."""
    for name, word, choices in (("delays", delays, DELAYS), ("version", version, versions)):
        if word not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {word!r}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")


def hold_positions(layer: Any, *shape: int) -> None:
    """Registers ``position``, not yet drawn: a parameter, or a buffer where it is not learned."""
    if layer.delays == "learned":
        layer.position = nn.Parameter(torch.empty(shape))
    else:
        layer.register_buffer("position", torch.empty(shape), persistent=layer.delays != "none")


@torch.no_grad()
def draw_positions(layer: Any, low: float, high: float) -> None:
    """Uniform positions within the window, whole ones where they stay as they are drawn."""
    layer.position.uniform_(low, high)
    if layer.delays == "fixed":
        layer.position.round_()
    layer.clamp_()


def whole(layer: Any) -> bool:
    """Whether a layer's delays are whole steps even while it trains, so that no tap has a width."""
    return layer.delays in ("fixed", "none")


def refuse_chunks(layer: Any) -> None:
    """ValueError for a layer with ``extra_steps``: its chunks would overlap."""
    if layer.extra_steps:
        raise ValueError("a delay layer with extra_steps cannot run in chunks; use extra_steps=0")


def scan(
    layer: Any, run: Callable[[Tensor], Tensor], x_TBC: Tensor, history: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``run(x)``, what the layer does, carried on after ``history``, its K - 1 inputs before x
    (None: silence), and the history for the next chunk.
    """
    refuse_chunks(layer)
    past = layer.max_delay_steps - 1
    if history is None:
        history = x_TBC.new_zeros(past, *x_TBC.shape[1:])
    x_TBC = torch.cat([history, x_TBC])
    return run(x_TBC)[past:], x_TBC[x_TBC.shape[0] - past :]
