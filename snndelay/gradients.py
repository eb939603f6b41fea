"""How far gradients go back in time.

``bptt`` is backpropagation through time. ``detach_state`` drops the gradient through the neurons'
states and keeps that through delays. ``sltt`` drops all of it: forward one step, backward at once,
so memory does not grow with the number of steps. (recompute.py saves memory and changes nothing.)

Legend: T steps, K steps that carry gradient under ``sltt``.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .errors import BackendError, ConfigError
from .kernels import NeuronOptions
from .neurons import wanting_detached
from .recorded import capturing
from .step_graphs import StepGraphs


class Scaler(Protocol):
    """Anything that scales a loss before its gradients are taken."""

    def scale(self, loss: Tensor, /) -> Tensor:
        """The loss, () in any float type, times a number."""
        ...


GRADIENTS = ("bptt", "detach_state", "sltt")


def set_temporal_gradient(net: nn.Module, gradient: str) -> None:
    """Makes every layer of neurons in ``net`` pass gradients from step to step (``bptt``) or not
    (``detach_state``; ``sltt`` too, where ``backward`` cuts anyway). A readout that only integrates
    is left alone: it is linear, so its gradient is exact at no cost.

    Raises:
        ConfigError: ``gradient`` is not in GRADIENTS.

    Source: Meng et al. 2023 (arXiv 2302.14311), section 4.
    """
    _check(gradient, None, 1)
    for layer in net.modules():
        options = getattr(layer, "options", None)
        if isinstance(options, NeuronOptions):
            layer.options = dataclasses.replace(options, detach_state=gradient != "bptt")


def backward(
    run: Callable[..., tuple[Tensor, Any, Any]],
    sequences: Sequence[Tensor | None],
    others: Sequence[Tensor] = (),
    *,
    gradient: str = "bptt",
    backward_steps: int | None = None,
    generator: np.random.Generator | None = None,
    scaler: Scaler | None = None,
    graphs: StepGraphs | None = None,
) -> tuple[Tensor, list]:
    """Runs a network over all steps and adds the gradients of its loss to the parameters.

    ``bptt`` and ``detach_state`` (which wants ``set_temporal_gradient`` first) take all steps at
    once. ``sltt`` takes them one by one: what a step hands to the next carries no gradient, so
    delayed inputs are constants, and BatchNorm sees the statistics of one step.

    Args:
        run: ``run(*sequences, *others, state) -> (loss, outputs, state)`` runs the network on some
            steps of the sequences from ``state`` (None: at rest), in the autocast it likes;
            ``loss`` is their share, already divided by T. ``outputs`` and ``state``: tensors in
            tuples, lists and dicts.
        sequences: tensors (T, ...), of which ``run`` gets some steps, at least one; or None.
        others: tensors that ``run`` gets whole, labels say.
        gradient: one of GRADIENTS.
        backward_steps: K: so many steps, drawn without replacement, carry gradient under ``sltt``
            and the others run without; None: all. The mean gradient is K/T of that of all.
        generator: draws the K steps; None: seeded by torch's generator.
        scaler: scales what goes backward: a ``torch.amp.GradScaler``, or ``Ranks``.
        graphs: replays one step T times under ``sltt``, the same object in every call.

    Returns:
        The loss of all T steps, () and without gradient, and the outputs of each run, detached.

    Raises:
        ConfigError: unknown ``gradient``; K outside 1..T, no integer or without ``sltt``; another
            kind of generator; sequences of several lengths or none; ``detach_state`` with neurons
            that pass gradients on.
        BackendError: a step cannot be recorded.

    Source: Meng et al. 2023 (arXiv 2302.14311), section 4, algorithm 1.
    """
    n_steps = _length(sequences)
    _check(gradient, backward_steps, n_steps)
    if generator is not None and not hasattr(generator, "choice"):
        raise ConfigError(
            "the generator that draws steps is one of numpy, numpy.random.default_rng(seed), not "
            f"{type(generator).__module__}.{type(generator).__name__}"
        )
    chosen = range(n_steps)
    if backward_steps is not None:
        if capturing():
            raise BackendError(
                "a graph of all steps would learn from the same ones for ever: use StepGraphs"
            )
        generator = generator or np.random.default_rng(int(torch.randint(2**62, ())))
        chosen = generator.choice(n_steps, backward_steps, replace=False)
    if gradient != "sltt":
        with wanting_detached(gradient == "detach_state"):
            loss, output, _ = _share(run, (*sequences, *others), None, True, scaler)
        return loss, [output]
    graphs = graphs if graphs and graphs.graph else None
    one = graphs.begin(n_steps, _share) if graphs else _share
    shares, outputs, state = [], [], None
    for t in range(n_steps):
        now = [None if x is None else x[t : t + 1] for x in sequences]
        share, output, state = one(run, (*now, *others), state, t in chosen, scaler)
        shares.append(share)
        outputs.append(output)
    if graphs:
        graphs.end()
    return torch.stack(shares).sum(), outputs


def _length(sequences: Sequence[Tensor | None]) -> int:
    """T of all sequences."""
    if torch.is_tensor(sequences):
        raise ConfigError("sequences must be a list of tensors, [x_TBC] say, not a tensor")
    lengths = {len(x) for x in sequences if x is not None}
    if len(lengths) != 1 or 0 in lengths:
        found = ", ".join(map(str, sorted(lengths))) or "none"
        raise ConfigError(f"sequences must have one length of at least 1 step, not {found}")
    return lengths.pop()


def _share(run, inputs: Sequence, state, learns: bool, scaler) -> tuple:
    """One run and its backward pass; what it returns holds no graph."""
    with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
        loss, output, state = run(*inputs, state)
    if learns:
        (loss if scaler is None else scaler.scale(loss)).backward()
    # autocast would hand weights that it converted without gradient to a step that needs one
    torch.clear_autocast_cache()
    return tree_map_only(Tensor, Tensor.detach, (loss, output, state))


def _check(gradient: str, backward_steps: int | None, n_steps: int) -> None:
    if gradient not in GRADIENTS:
        raise ConfigError(
            f"the temporal gradient must be one of {', '.join(GRADIENTS)}, not {gradient!r}"
        )
    if backward_steps is None:
        return
    if gradient != "sltt":
        raise ConfigError(
            f"backward_steps {backward_steps} needs the temporal gradient sltt, not {gradient}"
        )
    if isinstance(backward_steps, bool) or not isinstance(backward_steps, int | np.integer):
        raise ConfigError(f"backward_steps must be a whole number, not {backward_steps!r}")
    if not 1 <= backward_steps <= n_steps:
        raise ConfigError(
            f"backward_steps must be 1 to the number of steps, {n_steps}, not {backward_steps}"
        )
