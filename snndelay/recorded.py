"""A function of tensors that is recorded as a CUDA graph, once for each shape of its inputs."""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, cuda

from .errors import BackendError

DEVICE = "cuda"  # where graphs are
log = logging.getLogger("snndelay")


class Graphed:
    """A function of tensors that runs as a CUDA graph: the first call with inputs of some shapes
    runs as it is, the second records, and from then on the recording is replayed.

    Args:
        run: called with the inputs, on the device, or None where an input is None; returns a tuple
            of tensors. What else it changes must be tensors that it changes in place.
        device: where it runs.
        graph: None: graphs on CUDA and none elsewhere.
        most: graphs that are kept; further shapes run as they are, and a warning says so.
        state: what else a recording depends on, hashable, asked at every call.
        parameters: tensors for which ``run`` makes gradients anew: after a replay their ``grad`` is
            that of the recording.

    Recordings share one pool of memory. Inputs on the host go to the device without a wait.

    Raises:
        BackendError: a graph is asked for elsewhere than on CUDA; or, when called, the function
            cannot be recorded.
    """

    def __init__(
        self,
        run: Callable[..., tuple[Tensor, ...]],
        device: torch.device,
        *,
        graph: bool | None = None,
        most: int = 64,
        state: Callable[[], Hashable] = lambda: None,
        parameters: Sequence[Tensor] = (),
    ):
        if graph and device.type != DEVICE:
            raise BackendError(f"CUDA graphs need a CUDA device, and this one is {device}")
        self.run, self.device, self.most, self.state = run, device, most, state
        self.parameters = parameters
        self.graph = device.type == DEVICE if graph is None else graph
        self._seen: dict[Hashable, _Recording | None] = {}
        self._pool: Any = None
        self._stream: Any = None

    @property
    def n_graphs(self) -> int:
        """Number of recordings."""
        return sum(recording is not None for recording in self._seen.values())

    def forget(self) -> None:
        """Drops all recordings: call it after changing anything that is no tensor's value."""
        self._seen, self._pool = {}, None

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """What ``run`` returns for these inputs, in memory of its own."""
        if not self.graph:
            return self.run(*(self._near(x) for x in inputs))
        kind = tuple(x if x is None else (x.shape, x.stride(), x.dtype) for x in inputs)
        key = (kind, self.state(), torch.is_grad_enabled())
        if key not in self._seen:
            self._seen[key] = None
            return self._beside(inputs)
        recording = self._seen[key]
        if recording is None:
            if self.n_graphs >= self.most:
                self._say_full()
                return self._beside(inputs)
            recording = self._seen[key] = self._record(inputs)
        return recording(inputs)

    def _near(self, x: Tensor | None) -> Tensor | None:
        if x is None or x.device.type == self.device.type:
            return x
        if self.device.type == "cuda":  # the copy of pageable memory would wait for the device
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True)

    @property
    def recording(self) -> bool:
        """Whether ``run`` is being recorded: nothing happens, and values are not there."""
        return self.graph and cuda.is_current_stream_capturing()

    def _beside(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """As it is, on the stream of the recordings: autograd keeps the stream on which it first
        met a parameter, and a recording must not lead to another one."""
        if self._stream is None:
            self._stream = cuda.Stream(self.device)
        here = cuda.current_stream(self.device)
        near = [self._near(x) for x in inputs]
        self._stream.wait_stream(here)
        with cuda.stream(self._stream):
            outputs = self.run(*near)
        here.wait_stream(self._stream)
        return tuple(x.clone() for x in outputs)

    def _record(self, inputs: Sequence[Tensor | None]) -> "_Recording":
        if self._pool is None:
            self._pool = cuda.graph_pool_handle()
        held = [None if x is None else torch.empty_like(x, device=self.device) for x in inputs]
        graph = cuda.CUDAGraph()
        how = dict(pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        here = cuda.current_stream(self.device)
        try:
            with cuda.graph(graph, **how):  # thread_local: loaders pin memory meanwhile
                outputs = self.run(*held)
        except RuntimeError as error:
            cuda.set_stream(here)  # torch leaves this to a recording that ends well
            text = str(error).splitlines()[0]
            raise BackendError(
                f"this step cannot be recorded as a CUDA graph ({text}): turn graphs off "
                "(graph=False, in a run --graph off)"
            ) from error
        return _Recording(graph, held, outputs, [(p, p.grad) for p in self.parameters])

    def _say_full(self) -> None:
        if self.most >= 0:
            log.warning(
                "%d shapes are recorded as CUDA graphs; other shapes run without, which is slower: "
                "give all batches one length",
                self.n_graphs,
            )
        self.most = -1


class _Recording(NamedTuple):
    """One graph, where it reads, and where it writes what it returns and the gradients."""

    graph: Any
    held: list[Tensor | None]
    outputs: tuple[Tensor, ...]
    gradients: list[tuple[Tensor, Tensor | None]]

    def __call__(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        for to, x in zip(self.held, inputs, strict=True):
            if to is not None and x is not None:
                near = x.device.type == to.device.type
                to.copy_(x if near else x.pin_memory(), non_blocking=True)
        self.graph.replay()
        for p, grad in self.gradients:
            p.grad = grad
        return tuple(x.clone() for x in self.outputs)  # the next replay may write there
