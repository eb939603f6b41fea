"""The parts of a block as modules of their own, called one by one where somebody looks at them.

A block runs its parts as one op while they are plain: exactly of the library's classes, without
hooks. Hooks (monitors, pruning, ``weight_norm``) and other classes (parametrised weights, another
norm) are seen by ``nn.Module.__call__`` alone, so then the block calls its parts.

Legend: T time steps, B batch, N neurons on the last axis.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable takes a second to import
from torch.nn.modules.module import _has_any_global_hook

from .kernels import lif
from .kernels.dropout import Dropout, keep_mask
from .neurons import LIF, SpikeDropout


def hooked(module: nn.Module) -> bool:
    """Whether a module does more when it is called than its class's ``forward``."""
    return bool(
        _has_any_global_hook()
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )


def plain(module: nn.Module, *classes: type) -> bool:
    """Whether a module is exactly of one of these classes and has no hooks."""
    return type(module) in classes and not hooked(module)


def one_op(neuron: nn.Module, drop: nn.Module) -> bool:
    """Whether neuron and dropout may run as one op."""
    return plain(neuron, LIF) and plain(drop, SpikeDropout)


def called(module: nn.Module, run: Callable[..., tuple], *inputs: Any) -> tuple:
    """What ``run(*inputs)`` returns, with ``module``'s hooks around it as around its ``forward``:
    they see the inputs and the first of the results. A graph of torch.compile breaks here.
    """
    how = _called_out_of_graph if torch.compiler.is_compiling() else _called
    return how(module, run, *inputs)


def _called(module: nn.Module, run: Callable[..., tuple], *inputs: Any) -> tuple:
    rest: list = []

    def forward(*inputs):
        first, *rest[:] = run(*inputs)
        return first

    own = vars(module).get("forward")
    module.forward = forward
    try:
        return module(*inputs), *rest
    finally:
        del module.forward
        if own is not None:
            module.forward = own


_called_out_of_graph = _disable_dynamo(_called)  # it changes the module meanwhile


def scanned(module: Any, x: Tensor, state: Any, *more: Any) -> tuple:
    """``module.scan``, with the module's hooks around it if it has any; its ``forward`` where that
    is one's own.

    Raises:
        ValueError: a state for a module that only knows its ``forward``.
    """
    if _alone(module):
        if state is not None or any(more):
            raise ValueError(NoState(module).why_not)
        return module(x), NoState(module)
    if isinstance(state, NoState):
        raise ValueError(state.why_not)
    if not hooked(module):
        return module.scan(x, state, *more)
    return called(module, lambda x: module.scan(x, state, *more), x)


def drawn(drop: nn.Module, seed: Tensor | None, device: torch.device) -> Dropout | None:
    """What makes ``lif`` do as a ``SpikeDropout`` in training, see ``draw_after``; None for another
    module, which is called.
    """
    return drop.draw_after(seed, device) if isinstance(drop, SpikeDropout) else None


class NoState:
    """In place of the state of a module that only knows clips from rest."""

    def __init__(self, module: nn.Module):
        self.why_not = (
            f"{type(module).__name__} has a forward of its own and no scan(x, state) that goes "
            "with it, so it cannot carry on with a next chunk or give potentials: give it one"
        )


def _alone(module: nn.Module) -> bool:
    """Whether what counts of a module is a ``forward`` of one's own, to which no ``scan`` belongs:
    that of the instance, or of a class that comes before the one with ``scan``.
    """
    if "forward" in vars(module):
        return True
    own = next(c for c in type(module).__mro__ if {"forward", "scan"} & vars(c).keys())
    return "scan" not in vars(own)


def fire(
    neuron: nn.Module,
    drop: nn.Module,
    current_TBN: Tensor,
    state: Any,
    dropout: Dropout | None,
    scan: Callable[..., tuple] | None = None,
) -> tuple:
    """Spikes of a current after dropout, and the state after them.

    Args:
        neuron, drop: the parts; in one op where both are plain.
        current_TBN: normalised, (T, B, N) with any further axes before N.
        state: see ``lif``.
        dropout: what ``drop`` does if it is a ``SpikeDropout``; None: nothing.
        scan: in place of ``neuron.scan``, which returns more, say.

    Raises:
        ValueError: a state for a neuron that has none.
    """
    if scan is None and one_op(neuron, drop):
        how = dict(dropout=dropout, backend=neuron.backend)
        return lif(current_TBN, state, **how, **neuron.settings())
    if isinstance(state, NoState):
        raise ValueError(state.why_not)
    if _alone(neuron):
        if scan is not None:
            raise ValueError(NoState(neuron).why_not)
        s_TBN, *more = neuron(current_TBN), NoState(neuron)
    else:
        run = scan or neuron.scan
        s_TBN, *more = called(neuron, lambda x_TBN: run(x_TBN, state), current_TBN)
    return silence(drop, s_TBN, dropout), *more


def silence(drop: nn.Module, s_TBN: Tensor, dropout: Dropout | None) -> Tensor:
    """What a dropout leaves of spikes or features, (T, B, ..., N): by ``dropout`` if it is a
    ``SpikeDropout``, else by a call of it.
    """
    if not isinstance(drop, SpikeDropout) or type(drop).forward is not SpikeDropout.forward:
        return drop(s_TBN)
    if "forward" in vars(drop):
        return drop(s_TBN)
    if not hooked(drop):
        return _silenced(s_TBN, dropout)
    return called(drop, lambda s_TBN: (_silenced(s_TBN, dropout),), s_TBN)[0]


def _silenced(s_TBN: Tensor, dropout: Dropout | None) -> Tensor:
    if dropout is None:
        return s_TBN
    T, N = s_TBN.shape[0], s_TBN.shape[-1]
    mask = keep_mask(dropout, T, s_TBN[0].numel() // N, N)
    return s_TBN * mask.view(-1, *s_TBN.shape[1:]).to(s_TBN.dtype)
