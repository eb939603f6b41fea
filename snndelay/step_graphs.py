"""One time step as a CUDA graph that is replayed T times, for gradients that go step by step."""
# torch has no public words for many tensors at once
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from .recorded import Graphed

# -- tensors in tuples, lists and dicts ---


class _Tensor(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype


class _Form(NamedTuple):
    """What ``_built`` needs beside the tensors; ``parts``: in the place of each its shape."""

    spec: TreeSpec
    parts: tuple


def _form(thing: Any) -> _Form:
    leaves, spec = tree_flatten(thing)
    parts = (_Tensor(x.shape, x.dtype) if torch.is_tensor(x) else x for x in leaves)
    return _Form(spec, tuple(parts))


def _tensors(thing: Any) -> list[Tensor]:
    return [x for x in tree_leaves(thing) if torch.is_tensor(x)]


def _built(form: _Form, tensors: Iterable[Tensor]) -> Any:
    rest = iter(tensors)
    leaves = [next(rest) if isinstance(part, _Tensor) else part for part in form.parts]
    return tree_unflatten(leaves, form.spec)


# -- the graphs ---


class StepGraphs:
    """One time step of ``backward`` under ``sltt`` as a CUDA graph, recorded once for each shape of
    its inputs and replayed T times: without the host, and in the memory of one step.

        graphs = StepGraphs(net)
        for x_TBC, label_B in batches:
            optimizer.zero_grad()
            backward(run, [x_TBC], [label_B], gradient="sltt", graphs=graphs)
            optimizer.step()

    Args:
        net: the network that ``run`` runs.
        graph: None: graphs on CUDA and none elsewhere.

    ``run`` may depend on nothing that changes from call to call but its arguments and the network.
    The first step of a sequence is a recording of its own, and so is one without gradient. The
    state is kept where the next replay reads it, and gradients are summed in place.

    Raises:
        BackendError: ``graph`` elsewhere than on CUDA.
    """

    def __init__(self, net: nn.Module, *, graph: bool | None = None):
        device = next(net.parameters()).device
        self.net = net
        self._graphed = Graphed(self._step, device, graph=graph, state=self._kind)
        self._sums: dict[nn.Parameter, Tensor] = {}  # of gradients, of all steps so far
        self._states: dict[Hashable, list[Tensor]] = {}  # form of a state: where it is kept
        self._made: dict[Hashable, _Made] = {}
        self._learned: set[nn.Parameter] = set()
        self._now: _Call

    @property
    def graph(self) -> bool:
        """Whether steps are recorded."""
        return self._graphed.graph

    @property
    def n_graphs(self) -> int:
        """Number of recordings."""
        return self._graphed.n_graphs

    def forget(self) -> None:
        """Drops all recordings: call it after changing anything that is no tensor's value."""
        self._graphed.forget()

    def begin(self, n_steps: int, share: Callable) -> Callable:
        """What runs one step of a sequence of ``n_steps`` in the place of ``share``, which runs it
        without a graph: (run, inputs, state, learns, scaler) -> (loss, outputs, state)."""
        self._learned.clear()
        if apart := [total for p, total in self._sums.items() if p.grad is not total]:
            torch._foreach_zero_(apart)  # where nobody has zeroed a gradient, this adds to it

        def one(run, inputs: Sequence, state, learns: bool, scaler) -> tuple:
            self._now = _Call(share, run, n_steps, _form(inputs), state, learns, scaler)
            parts = self._graphed(*inputs)
            made = self._made[self._kind()]
            self._learned.update(made.learned)
            loss, outputs = _built(made.results, parts)
            return loss, outputs, made.state

        return one

    def end(self) -> None:
        """Gives the parameters the gradients of all steps since ``begin``."""
        for p in self._learned:
            total = self._sums[p]
            if p.grad is None:
                p.grad = total
            elif p.grad is not total:
                p.grad += total

    def _kind(self) -> Hashable:
        return self._now.kind, self.net.training, *(p.requires_grad for p in self.net.parameters())

    def _step(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        call = self._now
        state = call.state and _built(call.state, self._states[call.state])
        parameters = list(self.net.parameters())
        before = [p.grad for p in parameters]
        for p in parameters:
            p.grad = None
        loss, outputs, state = call.share(call.run, inputs, state, call.learns, call.scaler)
        learned = [p for p in parameters if p.grad is not None]
        self._add(learned)
        for p, grad in zip(parameters, before, strict=True):
            p.grad = grad
        self._made[self._kind()] = _Made(_form((loss, outputs)), self._keep(state), learned)
        return tuple(_tensors((loss, outputs)))

    def _add(self, learned: list[nn.Parameter]) -> None:
        for p in learned:
            if p not in self._sums:  # never while recording, which each kind of step does later
                self._sums[p] = torch.zeros_like(p)
        if learned:
            torch._foreach_add_([self._sums[p] for p in learned], [p.grad for p in learned])

    def _keep(self, state: Any) -> _Form:
        """Puts a state where steps after it read it; returns its form."""
        form, new = _form(state), _tensors(state)
        if (old := self._states.get(form)) is None:
            self._states[form] = [t.clone() for t in new]
        elif new:
            kept = {t.untyped_storage().data_ptr() for t in old}  # one may move to another's place
            new = [t.clone() if t.untyped_storage().data_ptr() in kept else t for t in new]
            torch._foreach_copy_(old, new)
        return form


class _Call(NamedTuple):
    """What a step is called with; ``state`` is the form of the one before it, None at rest."""

    share: Callable
    run: Callable
    n_steps: int
    inputs: _Form
    state: _Form | None
    learns: bool
    scaler: Any

    @property
    def kind(self) -> Hashable:
        return self.n_steps, self.inputs, self.state, self.learns


class _Made(NamedTuple):
    """What a kind of step leaves: the forms of its results and state, what has a gradient."""

    results: _Form
    state: _Form
    learned: list[nn.Parameter]
