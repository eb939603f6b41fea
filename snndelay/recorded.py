"""A function of tensors that is recorded as a CUDA graph, once for each shape of its inputs."""

import gc
import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, cuda

from .errors import BackendError

DEVICE = "cuda"  # where graphs are
log = logging.getLogger("snndelay")


def capturing() -> bool:
    """Whether a graph is being recorded now, by whomever: nothing is computed, and what is made
    lies in the graph's memory."""
    return cuda.is_initialized() and cuda.is_current_stream_capturing()


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
        self._said = False  # that there are no more graphs
        self._pool: Any = None
        self._stream: Any = None

    @property
    def n_graphs(self) -> int:
        """Number of recordings."""
        return sum(recording is not None for recording in self._seen.values())

    def forget(self) -> None:
        """Drops all recordings: call it after changing anything that is no tensor's value."""
        self._seen, self._pool, self._said = {}, None, False

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """What ``run`` returns for these inputs, in memory of its own."""
        if not self.graph:
            return self.run(*(x if x is None else self._near(x) for x in inputs))
        kind = tuple(x if x is None else (x.shape, x.stride(), x.dtype) for x in inputs)
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        key = (kind, self.state(), modes)
        if key in self._seen and (recording := self._seen[key]) is not None:
            return recording(inputs)
        if key in self._seen and self.n_graphs < self.most:
            recording = self._seen[key] = self._record(inputs)
            return recording(inputs)
        if key in self._seen:
            self._say_full()
        outputs = self._beside(inputs)
        self._seen[key] = None  # only now: what a first call makes is not to be made in a graph
        return outputs

    def _near(self, x: Tensor) -> Tensor:
        if x.device.type == self.device.type:
            return x
        if self.device.type == "cuda":  # the copy of pageable memory would wait for the device
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True)

    def _held(self, inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Memory for inputs, aligned and dense whatever theirs is, to be computed on alike."""
        return [None if x is None else torch.empty_like(x, device=self.device) for x in inputs]

    def _beside(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """As it is, on the stream of the recordings: autograd keeps the stream on which it first
        met a parameter, and a recording must not lead to another one."""
        if self._stream is None:
            self._stream = cuda.Stream(self.device)
        here, held = cuda.current_stream(self.device), self._held(inputs)
        _fill(held, inputs)
        self._stream.wait_stream(here)
        with cuda.stream(self._stream), _own_casts():
            outputs = self.run(*held)
        here.wait_stream(self._stream)
        return tuple(x.clone() for x in outputs)

    def _record(self, inputs: Sequence[Tensor | None]) -> "_Recording":
        if self._pool is None:
            self._pool = cuda.graph_pool_handle()
        graph, held = cuda.CUDAGraph(), self._held(inputs)
        how = dict(pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        here = cuda.current_stream(self.device)
        collecting = gc.isenabled()
        gc.disable()  # it could destroy an old graph meanwhile, which is forbidden
        try:
            with cuda.graph(graph, **how), _own_casts():  # thread_local: loaders pin memory
                outputs = self.run(*held)
        except RuntimeError as error:
            cuda.set_stream(here)  # torch leaves this to a recording that ends well
            text = str(error).splitlines()[0]
            raise BackendError(
                f"this step cannot be recorded as a CUDA graph ({text}): turn graphs off "
                "(graph=False, in a run --graph off)"
            ) from error
        finally:
            if collecting:
                gc.enable()
        return _Recording(graph, held, outputs, [(p, p.grad) for p in self.parameters])

    def _say_full(self) -> None:
        if not self._said:
            log.warning(
                "%d shapes are recorded as CUDA graphs; other shapes run without, which is slower: "
                "give all batches one length",
                self.n_graphs,
            )
        self._said = True


class _Recording(NamedTuple):
    """One graph, where it reads, and where it writes what it returns and the gradients."""

    graph: Any
    held: list[Tensor | None]
    outputs: tuple[Tensor, ...]
    gradients: list[tuple[Tensor, Tensor | None]]

    def __call__(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        _fill(self.held, inputs)
        self.graph.replay()
        for p, grad in self.gradients:
            p.grad = grad
        return tuple(x.clone() for x in self.outputs)  # the next replay may write there


def _fill(held: Sequence[Tensor | None], inputs: Sequence[Tensor | None]) -> None:
    """Copies inputs, from the host without a wait, to where a step reads them."""
    for to, x in zip(held, inputs, strict=True):
        if to is not None and x is not None:
            near = x.device.type == to.device.type
            to.copy_(x if near else x.pin_memory(), non_blocking=True)


@contextmanager
def _own_casts() -> Iterator[None]:
    """Within, autocast converts weights anew, and forgets it afterwards: a replay would read what
    was converted elsewhere, and others what a graph's memory holds."""
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()
