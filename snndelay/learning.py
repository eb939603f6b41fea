"""What any network with delays needs while it trains.

Each function takes any ``nn.Module`` and finds the layers of this library in it, however deep:

    groups = parameter_groups(net, lr=1e-3, lr_position=0.1, weight_decay=1e-5)
    optimizer = torch.optim.Adam(groups)
    for epoch in range(epochs):
        set_sigma(net, sigma_at(epoch, 12, final_epoch=epochs // 4))
        for x_TBC, label_B in batches:
            ...  # forward, backward
            optimizer.step()
            clamp_(net)

Without the narrowing width a network evaluates on other currents than it was trained on, and
without the clamp positions leave the window, where no tap is.
"""

import copy
from typing import Any

import torch
from torch import nn

from .delays import KINDS
from .neurons import LIF
from .rate import LeakyRate
from .turning import SIGMA_END


def delay_layers(module: nn.Module) -> list:
    """Every layer of delays inside, in the order in which they were registered."""
    return [layer for layer in module.modules() if isinstance(layer, KINDS)]


def sigma_at(epoch: int, start: float, end: float = SIGMA_END, final_epoch: int = 0) -> float:
    """Width parameter SIG during ``epoch``: falls exponentially from ``start`` to ``end`` at
    ``final_epoch``, then stays.

    Args:
        epoch: counted from 0.
        start, end: SIG in steps, > 0; the effective width of the ``gauss`` taps is SIG + 0.27.
            Published: K // 2 and 0.23.
        final_epoch: first epoch with ``end``; 0 or less: ``end`` from the start. Published: a
            quarter of all epochs.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.4: SIG *=
    (end/start)^(1/final_epoch) per epoch.
    """
    if epoch >= final_epoch:
        return end
    return start * (end / start) ** (epoch / final_epoch)


@torch.no_grad()
def set_sigma(module: nn.Module, steps: float) -> None:
    """Sets the width parameter SIG of all delays inside, in steps; a width that is learned itself
    is left alone.
    """
    for layer in delay_layers(module):
        if not layer.sigma.requires_grad:
            layer.sigma.fill_(steps)


def clamp_(module: nn.Module) -> None:
    """Puts all positions back onto their windows and all neuron constants into their ranges; call
    it after every optimizer step.
    """
    for layer in module.modules():
        if isinstance(layer, (*KINDS, LIF, LeakyRate)):
            layer.clamp_()


@torch.no_grad()
def round_(module: nn.Module) -> None:
    """Puts all positions on whole steps and windows, for good. With a width near 0 and positions
    that are no longer trained, the weights then learn on the delays of evaluation.
    """
    for layer in delay_layers(module):
        layer.position.round_()
        layer.clamp_()


def parameter_groups(
    module: nn.Module, lr: float, lr_position: float, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: every trained parameter of ``module`` once.

    Args:
        lr: learning rate of all but the positions. Published: 1e-3, one-cycle up to 5e-3.
        lr_position: learning rate of the delay positions, in steps. Published: 0.1, cosine to 0.
        weight_decay: on weights, that is on tensors of two dimensions or more. Positions, widths,
            biases, norms and the constants of neurons are never pulled to 0. Published: 1e-5.

    Returns:
        Up to three groups, each with its ``name``: ``weights``, ``others`` (no decay) and
        ``positions`` (no decay, ``lr_position``); a group without parameters is left out.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 4.
    """
    layers = delay_layers(module)
    positions = {id(layer.position) for layer in layers}
    widths = {id(layer.sigma) for layer in layers}
    parts: dict[str, list[nn.Parameter]] = {"weights": [], "others": [], "positions": []}
    for p in module.parameters():
        if not p.requires_grad:
            continue
        plain = p.ndim < 2 or id(p) in widths
        name = "positions" if id(p) in positions else "others" if plain else "weights"
        parts[name].append(p)
    rates = {"weights": lr, "others": lr, "positions": lr_position}
    return [
        {
            "name": name,
            "params": parameters,
            "lr": rates[name],
            "weight_decay": weight_decay if name == "weights" else 0.0,
        }
        for name, parameters in parts.items()
        if parameters
    ]


def unrounded(module: nn.Module) -> nn.Module:
    """A copy whose delays stay as trained in evaluation mode too; ``module`` is not touched."""
    # torch copies no tensor that was computed, as pruned weights are, once per call
    held = (t for m in module.modules() for t in vars(m).values() if isinstance(t, torch.Tensor))
    twin = copy.deepcopy(module, {id(t): t.detach().clone() for t in held if not t.is_leaf})
    for layer in delay_layers(twin):
        layer.rounded = False
    return twin
