"""CUDA graphs without CUDA: a recording notes the ops that torch dispatches on CPU tensors, and a
replay runs them again on the same memory, so that what reads stale memory, or changes what it
should not, differs from a run without graphs.

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

from snndelay import graphs as graphs_module
from snndelay import recorded

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


def _storages(tree) -> set[int]:
    return {t.untyped_storage()._cdata for t in tree_flatten(tree)[0] if torch.is_tensor(t)}


def _is_view(func) -> bool:
    return any(value.alias_info for value in func._schema.returns)


def _blank(tree):
    """With 0 for integers, which nobody has written yet: classes, say."""
    return tree_map(
        lambda t: torch.zeros_like(t) if torch.is_tensor(t) and t.dtype == torch.int64 else t, tree
    )


class Recorder(TorchDispatchMode):
    """Notes every op in `steps`; in-place ones do not happen, others leave NaN."""

    def __init__(self, steps: list):
        super().__init__()
        self.steps = steps

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
        if written:
            self.steps.append((func, args, kwargs, None))
            return written[0] if schema.returns else None
        made = func(*args, **kwargs) if _is_view(func) else func(*_blank(args), **_blank(kwargs))
        new = [t for t in tree_flatten(made)[0] if torch.is_tensor(t)]
        if not _storages(new) <= _storages((args, kwargs)):  # else views of what is there
            self.steps.append((func, args, kwargs, new))
            for t in new:
                t.fill_(float("nan") if t.is_floating_point() else 0)
        return made


class Graph:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self):
        self.steps: list = []

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, into in self.steps:
                made = [t for t in tree_flatten(func(*args, **kwargs))[0] if torch.is_tensor(t)]
                for t, old in zip(made, into or made, strict=True):
                    if t is not old:
                        old.copy_(t)


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
