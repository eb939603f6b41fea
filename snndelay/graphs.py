"""A training step without the host: recorded once per shape as a CUDA graph, then replayed.

    step = GraphedStep(net, torch.optim.Adam(net.parameters()), softmax_sum)
    for x_TBC, label_B in batches:
        loss = step(x_TBC, label_B)

A step of a delay network is dozens of launches, and launching them takes longer than running them.
A replay is one launch. It reads and writes the same memory each time: inputs are copied to where
the recording reads them, statistics change in place. The optimizers step beside the recording, in
one launch each, since schedules change numbers that it would hold on to (one-cycle schedules cycle
Adam's beta_1).
"""
# torch has no public words for many tensors at once
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .learning import clamp_
from .ranks import ALONE, Ranks
from .recorded import Graphed

FUSED = (torch.optim.Adam, torch.optim.SGD)  # AdamW is an Adam
READS = "cpu"  # a device whose values are at hand, so that there is no need to go on blind
INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Totals(NamedTuple):
    """What a ``GraphedStep`` has counted since the last reset."""

    steps: int
    """Number of steps, bad ones among them."""
    bad_steps: int
    """Steps whose loss or gradient was NaN or infinite; they changed nothing."""
    first_bad: tuple[int, float, float] | None
    """Of the first one: number of the step, from 0, loss, norm of the gradient."""
    sums: dict[str, Tensor]
    """Statistics by name, on the host, summed over the other steps."""
    bad_in_a_row: int
    """Length of the longest run of bad ones; one that began before the reset counts whole."""


class GraphedStep:
    """One update of a network: forward, loss, backward, clipping, optimizers, clamp. On CUDA all
    but the optimizers and the clamp is recorded as a graph for every shape of its inputs and
    replayed; on a CPU it runs as it is.

    Args:
        net: any module.
        optimizers: one, or several for parts of the parameters; anything that they and their
            schedules do between steps works as ever. On CUDA their groups are made ``fused`` for
            Adam, AdamW and SGD, and else ``capturable``.
        loss_function: ``loss_function(net(x), *others) -> loss`` for a call with (x, *others), with
            a mean over the batch or not as one likes; or ``-> (loss, statistics)``.
        gradients: in place of the loss function: ``gradients(*inputs) -> (loss, statistics)``,
            which calls backward itself. ``statistics``: name -> tensor to be summed over steps.
        grad_clip: largest norm of the gradient; None: no limit.
        graph: None: graphs on CUDA and none elsewhere. False where ``gradients`` has graphs of its
            own, see ``StepGraphs``.
        most_graphs: as ``most`` of ``Graphed``.
        ranks: the processes that make the step together, see ``Ranks``; every loss that goes
            backward is scaled by ``ranks.scale``. Gradients, statistics and the loss that is
            returned are those of the batch of all.

    A call returns the loss, () and without gradient, on the device, and waits for nothing. Dropout
    draws anew at every call, from torch's generator as ever, so a run with graphs equals one
    without bit for bit. A step whose loss or gradient is NaN or infinite changes neither
    parameters nor moments nor buffers, and is counted (an optimizer that counts its steps on the
    host, Adagrad say, counts it too). ``totals`` reads what was counted.

    What the recording cannot see is what is no tensor: call ``forget`` after changing it (freezing
    parameters and ``train()`` or ``eval()`` are noticed). Gradients lie in memory of the graphs:
    read them before the next call. An input in pinned memory of yours is read some time later.

    Raises:
        BackendError: ``graph`` on another device, or the step cannot be recorded (when called).
        ValueError: both or none of ``loss_function`` and ``gradients``; no optimizer; a
            ``grad_clip`` not above 0; other statistics than before (when called).
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: torch.optim.Optimizer | Iterable[torch.optim.Optimizer],
        loss_function: Callable | None = None,
        *,
        gradients: Callable[..., tuple[Tensor, dict[str, Tensor]]] | None = None,
        grad_clip: float | None = None,
        graph: bool | None = None,
        most_graphs: int = 64,
        ranks: Ranks | None = None,
    ):
        if (loss_function is None) == (gradients is None):
            raise ValueError("give a loss_function or gradients, one of them")
        if grad_clip is not None and not grad_clip > 0:
            raise ValueError(f"grad_clip is {grad_clip}: it must be above 0, or None for no limit")
        one = isinstance(optimizers, torch.optim.Optimizer)
        self.net, self.grad_clip, self.ranks = net, grad_clip, ranks or ALONE
        self.optimizers = [optimizers] if one else list(optimizers)
        if not self.optimizers:
            raise ValueError("give at least one optimizer")
        self.device = next(net.parameters()).device
        self._loss_function, self._gradients = loss_function, gradients or self._by_loss
        self._reads = self.device.type == READS
        if not self._reads:
            for optimizer in self.optimizers:
                _settle(optimizer)
                optimizer.register_load_state_dict_post_hook(_settle)
        # steps, bad ones, those of them in a row now and at most, the first: its number, loss, norm
        self._tally = torch.zeros(7, dtype=torch.float64, device=self.device)
        self._sums: dict[torch.dtype, Tensor] = {}
        self._names: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self._graphed = Graphed(
            self._recorded,
            self.device,
            graph=graph,
            most=most_graphs,
            state=self._state,
            parameters=list(net.parameters()),
        )

    @property
    def n_graphs(self) -> int:
        """Number of recordings."""
        return self._graphed.n_graphs

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """One update; returns its loss, ()."""
        loss, bad = self._graphed(*inputs)
        with torch.no_grad():
            self._descend(bad)
        return loss

    def forget(self) -> None:
        """Drops all recordings: call it after changing anything that is no tensor's value."""
        self._graphed.forget()

    def reset(self) -> None:
        """Counts anew from 0; a run of bad steps goes on."""
        for counted in (self._tally[:2], self._tally[3:], *self._sums.values()):
            counted.zero_()

    def totals(self) -> Totals:
        """What was counted since the last reset; waits for the device."""
        return totals_of(self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What was counted since the last reset, as plain values and tensors on the host; waits for
        the device."""
        sums, at = {}, dict.fromkeys(self._sums, 0)
        host = {dtype: vector.cpu() for dtype, vector in self._sums.items()}
        for name, (dtype, shape) in self._names.items():
            n = shape.numel()
            sums[name] = host[dtype][at[dtype] : at[dtype] + n].view(shape).clone()
            at[dtype] += n
        return {"tally": self._tally.tolist(), "sums": sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Counts on from what ``state_dict`` returned."""
        self._tally.copy_(torch.tensor(state["tally"], dtype=torch.float64))
        self._names = {name: (x.dtype, x.shape) for name, x in state["sums"].items()}
        for dtype in dict.fromkeys(dtype for dtype, _ in self._names.values()):
            parts = [x.flatten() for x in state["sums"].values() if x.dtype == dtype]
            now = torch.cat(parts).to(self.device)
            self._sums.setdefault(dtype, torch.empty_like(now)).copy_(now)

    # -- what is recorded ---

    def _state(self) -> Hashable:
        frozen = (p.requires_grad for p in self.net.parameters())
        return self.net.training, self.ranks.total, *frozen

    def _by_loss(self, x: Tensor, *others: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert self._loss_function is not None
        result = self._loss_function(self.net(x), *others)
        loss, more = result if isinstance(result, tuple) else (result, {})
        self.ranks.scale(loss).backward()
        return loss, {"loss": self.ranks.scale(loss.detach().double())} | more

    def _recorded(self, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradients of a step, clipped, and the count of it; its loss, and whether it is bad."""
        self.net.zero_grad(set_to_none=True)
        buffers = list(self.net.buffers())
        before = _copies(buffers)
        loss, statistics = self._gradients(*inputs)
        loss = loss.detach()
        with torch.no_grad():
            if self.ranks.size > 1:
                loss = self.ranks.scale(loss)
                gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
                self.ranks.sum_([*gradients, loss, *statistics.values()])
            norm = self._clipped()
            bad = (loss.isfinite() & norm.isfinite()).logical_not()
            if not self._reads or bad:
                _undo(bad, buffers, before)
            self._count(bad, loss, norm, statistics)
        return loss, bad

    def _clipped(self) -> Tensor:
        """Norm of the gradient, which is at most ``grad_clip`` afterwards."""
        if self.grad_clip is not None:
            return nn.utils.clip_grad_norm_(self.net.parameters(), self.grad_clip)
        return nn.utils.get_total_norm(
            [p.grad for p in self.net.parameters() if p.grad is not None]
        )

    def _descend(self, bad: Tensor) -> None:
        if self._reads or self._is_first():
            if not bad:
                for optimizer in self.optimizers:
                    _step_first(optimizer)
                clamp_(self.net)
            return
        for optimizer in self.optimizers:
            (_step_fused if isinstance(optimizer, FUSED) else _step_and_undo)(optimizer, bad)
        clamp_(self.net)

    def _is_first(self) -> bool:
        """Whether an optimizer is still to make its state, which a bad step could not undo."""
        return any(
            p.grad is not None and p not in optimizer.state
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            if not (isinstance(optimizer, torch.optim.SGD) and not group["momentum"])
            for p in group["params"]
        )

    def _count(self, bad: Tensor, loss: Tensor, norm: Tensor, statistics: dict) -> None:
        tally = self._tally
        is_first = bad & (tally[1] == 0)
        now = torch.stack([tally[0], loss.double(), norm.double()])
        tally[4:] = torch.where(is_first, now, tally[4:])
        row = (tally[2] + 1) * bad
        tally[2:4] = torch.stack([row, torch.maximum(row, tally[3])])
        tally[:2] += torch.stack([torch.ones_like(bad), bad])
        names = {name: (x.dtype, x.shape) for name, x in statistics.items()}
        self._names = self._names or names
        if names != self._names:
            raise ValueError(f"the statistics of a step are {self._names}, now they are {names}")
        for dtype in dict.fromkeys(dtype for dtype, _ in names.values()):
            parts = [x.detach().flatten() for x in statistics.values() if x.dtype == dtype]
            new = torch.cat(parts)
            if dtype not in self._sums:
                self._sums[dtype] = torch.zeros_like(new)
            self._sums[dtype] += torch.where(bad, torch.zeros_like(new), new)


def totals_of(state: dict[str, Any]) -> Totals:
    """``GraphedStep.totals`` of what its ``state_dict`` returned."""
    steps, bad, _, longest, first, *values = state["tally"]
    at = (int(first), *values) if bad else None
    return Totals(int(steps), int(bad), at, state["sums"], int(longest))


# -- optimizers on a device ---


def _settle(optimizer: torch.optim.Optimizer) -> None:
    """From now on the optimizer keeps all it needs on the device."""
    for group in optimizer.param_groups:
        if isinstance(optimizer, FUSED):
            group |= {"fused": True, "foreach": False}
        elif "capturable" in group:
            group["capturable"] = True
    for p, state in optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].to(p.device, torch.float32)


def _step_first(optimizer: torch.optim.Optimizer) -> None:
    """A step in which some parameters get their state, which fused SGD wants for all or none."""
    groups = optimizer.param_groups if isinstance(optimizer, torch.optim.SGD) else []
    fused = [group["fused"] for group in groups]
    for group in groups:
        group["fused"] = False
    optimizer.step()
    for group, before in zip(groups, fused, strict=True):
        group["fused"] = before


def _step_fused(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """A step that changes nothing where ``bad``: as for ``torch.amp.GradScaler``, fused optimizers
    look at it themselves."""
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def _step_and_undo(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    changed = [p for p in parameters if p.grad is not None]
    kept = (t for state in optimizer.state.values() for t in state.values() if torch.is_tensor(t))
    changed += [t for t in kept if t.device == bad.device]
    before = _copies(changed)
    optimizer.step()
    _undo(bad, changed, before)


# -- taking back a bad step ---


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    copies = [torch.empty_like(t) for t in tensors]
    for dtype in dict.fromkeys(t.dtype for t in tensors):  # of one type it is one launch
        same = [i for i, t in enumerate(tensors) if t.dtype == dtype]
        torch._foreach_copy_([copies[i] for i in same], [tensors[i].detach() for i in same])
    return copies


def _undo(bad: Tensor, now: list[Tensor], before: list[Tensor]) -> None:
    """Puts ``before``, which it uses up, back into ``now`` where ``bad``, a bool (), is true. As
    integers, because NaN times 0 is NaN; a few launches for any number of tensors.
    """
    for size, dtype in INTEGER.items():
        new = [t.detach().view(dtype) for t in now if t.element_size() == size]
        old = [t.view(dtype) for t in before if t.element_size() == size]
        if new:
            torch._foreach_mul_(new, bad.logical_not().to(dtype))
            torch._foreach_mul_(old, bad.to(dtype))
            torch._foreach_add_(new, old)
