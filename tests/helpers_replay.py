"""CUDA graphs without CUDA: a recording notes the ops that torch dispatches on CPU tensors, and a
replay runs them again on the same memory, so that what reads stale memory, or changes what it
should not, differs from a run without graphs, and what reads memory that is gone is an error.

As on a GPU, nothing happens while recording: results hold no values, and whoever asks for one gets
an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from snndelay import graphs as graphs_module
from snndelay import recorded

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


def _tensors(tree) -> list[torch.Tensor]:
    return [t for t in tree_flatten(tree)[0] if torch.is_tensor(t)]


def _storages(tree) -> set[int]:
    return {t.untyped_storage()._cdata for t in _tensors(tree)}


def _blank(tree):
    """With 0 for integers, which nobody has written yet: classes, say."""
    return tree_map(
        lambda t: torch.zeros_like(t) if torch.is_tensor(t) and t.dtype == torch.int64 else t, tree
    )


class Place:
    """Where a step of a recording finds a tensor: memory `inside` the recording; a `view`, by its
    number, that this very replay has made of other memory; or such memory `outside`, which nothing
    here keeps alive, as no graph does."""

    def __init__(self, inside=None, view: int | None = None, outside=None):
        self.inside, self.view, self.outside = inside, view, outside

    def tensor(self, views: dict[int, torch.Tensor]) -> torch.Tensor:
        if self.view is not None:
            return views[self.view]
        found = self.inside if self.outside is None else self.outside()
        assert found is not None, "the graph reads memory that has been freed"
        return found


class Recorder(TorchDispatchMode):
    """Notes every op in `steps`; in-place ones do not happen, others leave NaN."""

    def __init__(self, steps: list):
        super().__init__()
        self.steps = steps
        self.own: set[int] = set()  # storages, which `steps` keeps alive
        self.views = WeakTensorKeyDictionary()

    def place(self, t):
        if not torch.is_tensor(t):
            return t
        if t.untyped_storage()._cdata in self.own:
            return Place(inside=t)
        if (number := self.views.get(t)) is not None:
            return Place(view=number)
        return Place(outside=TensorWeakRef(t))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in WAITS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        schema = func._schema
        written = [
            kwargs.get(a.name, args[i] if i < len(args) else None)
            for i, a in enumerate(schema.arguments)
            if a.alias_info is not None and a.alias_info.is_write
        ]
        places = tree_map(self.place, (args, dict(kwargs)))
        if written:
            self.steps.append((func, places, "in place", None))
            return written[0] if schema.returns else None
        is_view = any(value.alias_info for value in schema.returns)
        made = func(*args, **kwargs) if is_view else func(*_blank(args), **_blank(kwargs))
        new = _tensors(made)
        if not _storages(new) <= _storages((args, kwargs)):
            self.own |= _storages(new)
            self.steps.append((func, places, "new", new))
            for t in new:
                t.fill_(float("nan") if t.is_floating_point() else 0)
        elif not _storages(new) <= self.own:  # views of memory that is not the recording's
            numbers = [len(self.steps) * 1000 + i for i in range(len(new))]
            for t, number in zip(new, numbers, strict=True):
                self.views[t] = number
            self.steps.append((func, places, "view", numbers))
        return made


class Graph:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self):
        self.steps: list = []

    def replay(self) -> None:
        views: dict[int, torch.Tensor] = {}

        def tensor(p):
            return p.tensor(views) if isinstance(p, Place) else p

        with torch.no_grad():
            for func, places, kind, what in self.steps:
                args, kwargs = tree_map(tensor, places)
                made = _tensors(func(*args, **kwargs))
                if kind == "new":
                    for t, old in zip(made, what, strict=True):
                        old.copy_(t)
                elif kind == "view":
                    views.update(zip(what, made, strict=True))


_now: list[Graph] = []


@contextmanager
def _capture(graph: Graph, **how) -> Iterator[None]:
    with torch.random.fork_rng([]), Recorder(graph.steps):
        _now.append(graph)
        try:
            yield
        finally:
            _now.pop()


STREAM = SimpleNamespace(wait_stream=lambda other: None)
CUDA = SimpleNamespace(
    CUDAGraph=Graph,
    Stream=lambda device: STREAM,
    current_stream=lambda device: STREAM,
    stream=lambda stream: nullcontext(),
    set_stream=lambda stream: None,
    graph=_capture,
    graph_pool_handle=lambda: None,
    is_current_stream_capturing=lambda: bool(_now),
    is_initialized=lambda: True,
)


@contextmanager
def as_on_a_gpu(graphs: bool = True) -> Iterator[None]:
    """Within, steps on a CPU do not look at values, and `graph=None` means such graphs, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs_module, "READS", "none")
        if graphs:
            patch.setattr(recorded, "DEVICE", "cpu")
            patch.setattr(recorded, "cuda", CUDA)
        yield
