"""Weights that are few, coarse or not trained, of any layer: what delays can do with so little.

Each function takes a module and registers a parametrization of torch on the weights of its linear
layers and layers of delays (``torch.nn.utils.parametrize``), so that optimizers, checkpoints and
copies work on them as ever.

    sparse_(net.blocks, fan_in=8)        # every neuron hears 8 random inputs
    quantise_(net, "ternary")            # weights -a, 0 or a
    freeze_(net)                         # delays are all that is trained of the synapses

Legend: E elements per synapse, N neurons, C input channels.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .delays import DelayLinear, RecurrentDelay
from .errors import ConfigError

WEIGHT_BITS = ("ternary", "8")
WEIGHTS = ("learned", "frozen")


class FanIn(nn.Module):
    """Keeps the weights of a neuron to ``fan_in`` random inputs and silences the others; ``mask``
    (N, C) is a buffer."""

    mask: Tensor

    def __init__(self, n_out: int, n_in: int, fan_in: int, device: torch.device | None = None):
        super().__init__()
        heard_NF = torch.rand(n_out, n_in, device=device).argsort(1)[:, :fan_in]
        mask_NC = torch.zeros(n_out, n_in, device=device)
        self.register_buffer("mask", mask_NC.scatter_(1, heard_NF, 1.0))

    def forward(self, weight: Tensor) -> Tensor:
        """The weights, (N, C) or (E, N, C), 0 where a neuron does not hear."""
        return weight * self.mask


class Coarse(nn.Module):
    """Weights of few values, each neuron with its own scale; gradients pass straight through.

    ``ternary``: -a, 0 or a, a the mean size of the weights above 0.7 of their mean size, which
    become +-a (Li et al. 2016, arXiv 1605.04711, equations 5 and 6). ``8``: whole multiples of
    1/127 of the largest.

    Source: straight-through gradients Bengio et al. 2013 (arXiv 1308.3432).
    """

    def __init__(self, bits: str):
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """The coarse weights, in the shape of ``weight``, (N, C) or (E, N, C)."""
        size = weight.detach().abs()
        heard = size > 0  # what a neuron does not hear counts for nothing
        if self.bits == "8":
            unit = size.amax(-1, keepdim=True).clamp_min(1e-12) / 127
            coarse = (weight.detach() / unit).round() * unit
        else:
            mean = size.sum(-1, keepdim=True) / heard.sum(-1, keepdim=True).clamp_min(1)
            large = size > 0.7 * mean
            a = (size * large).sum(-1, keepdim=True) / large.sum(-1, keepdim=True).clamp_min(1)
            coarse = torch.sign(weight.detach()) * large * a
        return coarse + (weight - weight.detach())  # exactly coarse: the difference is 0


def sparse_(module: nn.Module, fan_in: int) -> None:
    """Every neuron of the layers inside hears ``fan_in`` random inputs, and of a recurrent layer
    as many neurons of its own; its weights are scaled to what a layer of so many inputs would
    have. Layers with fewer inputs stay as they are.

    Raises:
        ValueError: ``fan_in`` below 1, or weights that are parametrised already.
    """
    if fan_in < 1:
        raise ValueError(f"fan_in must be at least 1, not {fan_in}")
    for layer in _layers(module):
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError("fan_in comes first: weights are parametrised already")
        n_out, n_in = layer.weight.shape[-2:]
        if fan_in < n_in:
            with torch.no_grad():
                layer.weight.mul_((n_in / fan_in) ** 0.5)
            mask = FanIn(n_out, n_in, fan_in, layer.weight.device)
            parametrize.register_parametrization(layer, "weight", mask)


def quantise_(module: nn.Module, bits: str) -> None:
    """The weights of the layers inside take few values, see ``Coarse``.

    Raises:
        ValueError: ``bits`` is not one of WEIGHT_BITS.
    """
    if bits not in WEIGHT_BITS:
        raise ValueError(f"weight_bits must be one of {', '.join(WEIGHT_BITS)}, not {bits!r}")
    for layer in _layers(module):
        parametrize.register_parametrization(layer, "weight", Coarse(bits))


def freeze_(module: nn.Module) -> None:
    """Weights of the layers inside are trained no more; positions, widths and norms still are."""
    for layer in _layers(module):
        if parametrize.is_parametrized(layer, "weight"):
            layer.parametrizations.weight.original.requires_grad_(False)
        else:
            layer.weight.requires_grad_(False)


def constrain_(
    net: nn.Module, hidden: nn.Module, fan_in: int | None, weight_bits: str | None, weights: str
) -> None:
    """What settings say of the weights of a network: how many inputs a neuron of its ``hidden``
    layers hears (None: all), and of all layers the ``weight_bits`` (None: float32) and whether
    ``weights`` are ``learned`` or ``frozen``. ValueError for unknown words, ConfigError for a
    ``fan_in`` that no hidden layer has.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be learned or frozen, not {weights!r}")
    if fan_in is not None:
        widest = max((layer.weight.shape[-1] for layer in _layers(hidden)), default=0)
        if fan_in > widest:
            raise ConfigError(
                f"fan_in is {fan_in}, and no hidden layer has more than {widest} inputs: leave it "
                "out"
            )
        sparse_(hidden, fan_in)
    if weight_bits is not None:
        quantise_(net, weight_bits)
    if weights == "frozen":
        freeze_(net)


def not_finite(named: Iterable[tuple[str, Any]]) -> str | None:
    """The first name whose tensor of real numbers is NaN or infinite somewhere; None: none is. What
    is no such tensor is passed over. Waits for the device of each."""
    for name, x in named:
        if torch.is_tensor(x) and x.is_floating_point() and not bool(x.isfinite().all()):
            return name
    return None


def n_parameters(net: nn.Module) -> int:
    """Number of trained parameters, without those of synapses that ``sparse_`` silenced."""
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return trained - sum(_silenced(layer) for layer in _layers(net))


def _silenced(layer: Any) -> int:
    """Number of trained weights and positions whose synapse is silent."""
    if not parametrize.is_parametrized(layer, "weight"):
        return 0
    of_weight = layer.parametrizations.weight
    masks = [p.mask for p in of_weight if isinstance(p, FanIn)]
    share = sum(float((mask == 0).float().mean()) for mask in masks)  # no more than one
    weight, position = of_weight.original, getattr(layer, "position", None)
    own = [weight] if position is None or position.shape != weight.shape else [weight, position]
    return round(share * sum(p.numel() for p in own if p.requires_grad))


def _layers(module: nn.Module) -> Iterator:
    """Layers whose weights are synapses."""
    kinds = nn.Linear | DelayLinear | RecurrentDelay
    return (m for m in [*module.modules()] if isinstance(m, kinds))
