"""A training step without the host: recorded once per shape as a CUDA graph, then replayed.

    step = GraphedStep(net, torch.optim.Adam(net.parameters()), softmax_sum)
    for x_TBC, label_B in batches:
        loss = step(x_TBC, label_B)

A step of a delay network is a few hundred launches, and launching them takes longer than running
them. A replay is one launch. It reads and writes the same memory each time: inputs are copied to
where the recording reads them, parameters, moments and statistics change in place.
"""
# torch has no public words for many tensors at once
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .learning import clamp_
from .recorded import Graphed

FUSED = (torch.optim.Adam, torch.optim.SGD)  # AdamW is an Adam
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


class GraphedStep:
    """One update of a network: forward, loss, backward, clipping, optimizers, clamp. On CUDA it is
    recorded as a graph for every shape of its inputs and replayed; on a CPU it runs as it is.

    Args:
        net: any module.
        optimizers: one, or several for parts of the parameters. On CUDA their groups are made
            ``capturable`` and, for Adam, AdamW and SGD, ``fused``. Learning rates may stay numbers:
            schedules set them between steps as ever. Where a schedule changes another
            hyperparameter (one-cycle schedules cycle Adam's beta_1), the step is recorded anew.
        loss_function: ``loss_function(net(x), *others) -> loss`` for a call with (x, *others), with
            a mean over the batch or not as one likes; or ``-> (loss, statistics)``.
        gradients: in place of the loss function: ``gradients(*inputs) -> (loss, statistics)``,
            which calls backward itself. ``statistics``: name -> tensor to be summed over steps.
        grad_clip: largest norm of the gradient; None: no limit.
        graph: None: graphs on CUDA and none elsewhere.
        most_graphs: as ``most`` of ``Graphed``.

    A call returns the loss, () and without gradient, on the device, and waits for nothing. Dropout
    draws anew at every call, from torch's generator as ever, so a run with graphs equals one
    without bit for bit. A step whose loss or gradient is NaN or infinite changes neither
    parameters nor moments nor buffers, and is counted. ``totals`` reads what was counted.

    What the recording cannot see is what is no tensor: call ``forget`` after changing it (freezing
    parameters and ``train()`` or ``eval()`` are noticed).

    Raises:
        BackendError: ``graph`` on another device, or the step cannot be recorded (when called).
        ValueError: both or none of ``loss_function`` and ``gradients``; other statistics than
            before (when called).
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
    ):
        if (loss_function is None) == (gradients is None):
            raise ValueError("give a loss_function or gradients, one of them")
        one = isinstance(optimizers, torch.optim.Optimizer)
        self.net, self.grad_clip = net, grad_clip
        self.optimizers = [optimizers] if one else list(optimizers)
        self.device = next(net.parameters()).device
        self._loss_function, self._gradients = loss_function, gradients or self._by_loss
        self._reads = self.device.type == "cpu"  # there a value is at hand, no need to go on blind
        self._rates: list[_Rate] | None = None
        self._hyperparameters = self._other_hyperparameters()
        self._tally = torch.zeros(5, dtype=torch.float64, device=self.device)
        self._sums: dict[torch.dtype, Tensor] = {}
        self._names: dict[str, tuple[torch.dtype, torch.Size]] = {}
        self._graphed = Graphed(
            self._step, self.device, graph=graph, most=most_graphs, state=self._state
        )
        for optimizer in self.optimizers:  # it replaces tensors that recordings write to
            optimizer.register_load_state_dict_post_hook(lambda _: self.forget())

    @property
    def n_graphs(self) -> int:
        """Number of recordings."""
        return self._graphed.n_graphs

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """One update; returns its loss, ()."""
        if self._hyperparameters != (now := self._other_hyperparameters()):
            self.forget()
            self._hyperparameters = now
        self._set_rates()
        return self._graphed(*inputs)[0]

    def forget(self) -> None:
        """Drops all recordings: call it after changing anything that is no tensor's value."""
        self._graphed.forget()
        self._rates = None

    def reset(self) -> None:
        """Counts anew from 0."""
        for counted in (self._tally, *self._sums.values()):
            counted.zero_()

    def totals(self) -> Totals:
        """What was counted since the last reset; waits for the device."""
        steps, bad, *first = self._tally.tolist()
        found, at = {}, dict.fromkeys(self._sums, 0)
        host = {dtype: vector.cpu() for dtype, vector in self._sums.items()}
        for name, (dtype, shape) in self._names.items():
            n = shape.numel()
            found[name] = host[dtype][at[dtype] : at[dtype] + n].view(shape).clone()
            at[dtype] += n
        return Totals(int(steps), int(bad), (int(first[0]), *first[1:]) if bad else None, found)

    # -- what is recorded ---

    def _other_hyperparameters(self) -> Hashable:
        """Of all groups, what is no tensor's value and so part of a recording: betas, decay, ..."""
        return tuple(
            (name, value)
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for name, value in group.items()
            if name in ("betas", "momentum", "dampening", "eps", "weight_decay")
        )

    def _state(self) -> Hashable:
        return self.net.training, *(p.requires_grad for p in self.net.parameters())

    def _by_loss(self, x: Tensor, *others: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert self._loss_function is not None
        result = self._loss_function(self.net(x), *others)
        loss, more = result if isinstance(result, tuple) else (result, {})
        loss.backward()
        return loss, {"loss": loss.detach().double()} | more

    def _step(self, *inputs: Tensor | None) -> tuple[Tensor]:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        buffers = list(self.net.buffers())
        before = _copies(buffers)
        loss, statistics = self._gradients(*inputs)
        loss = loss.detach()
        with torch.no_grad():
            norm = self._clipped()
            bad = (loss.isfinite() & norm.isfinite()).logical_not()
            self._descend(bad)
            if not self._reads or bad:
                _undo(bad, buffers, before)
            self._count(bad, loss, norm, statistics)
        return (loss,)

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
                self._optimize()
            else:  # whatever an optimizer makes in its first step is still missing
                self._graphed.forget()
            return
        states = (s for o in self.optimizers for s in o.state.values())
        changed = [p for p in self.net.parameters() if p.grad is not None]
        changed += [t for state in states for t in state.values() if torch.is_tensor(t)]
        before = _copies(changed)
        self._optimize()
        _undo(bad, changed, before)

    def _is_first(self) -> bool:
        """Whether an optimizer is still to make its state, which a bad step could not undo."""
        return any(
            p.grad is not None and p not in optimizer.state
            for optimizer in self.optimizers
            if not _stateless(optimizer)
            for group in optimizer.param_groups
            for p in group["params"]
        )

    def _optimize(self) -> None:
        with self._rates_as_tensors():
            for optimizer in self.optimizers:
                optimizer.step()
        clamp_(self.net)

    def _count(self, bad: Tensor, loss: Tensor, norm: Tensor, statistics: dict) -> None:
        tally = self._tally
        is_first = bad & (tally[1] == 0)
        now = torch.stack([tally[0], loss.double(), norm.double()])
        tally[2:] = torch.where(is_first, now, tally[2:])
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

    # -- optimizers on a device ---

    def _set_rates(self) -> None:
        """Brings numbers that a schedule has changed to where the recordings read them."""
        if self._reads:
            return
        if self._rates is None:
            self._rates = [
                _Rate(group, torch.zeros((), device=self.device))
                for optimizer in self.optimizers
                for group in _captured(optimizer, self.device)
                if not torch.is_tensor(group["lr"])
            ]
        for rate in self._rates:
            if rate.number != rate.group["lr"]:
                rate.number = rate.group["lr"]
                rate.tensor.fill_(rate.number)

    @contextmanager
    def _rates_as_tensors(self) -> Iterator[None]:
        for rate in self._rates or ():
            rate.group["lr"] = rate.tensor
        try:
            yield
        finally:
            for rate in self._rates or ():
                rate.group["lr"] = rate.number


@dataclass
class _Rate:
    """The learning rate of a group: the number that schedules see, the tensor of the recordings."""

    group: dict
    tensor: Tensor
    number: float | None = None


def _captured(optimizer: torch.optim.Optimizer, device: torch.device) -> list[dict]:
    """The groups of an optimizer, which from now on keeps all it needs on the device."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
        if isinstance(optimizer, FUSED):
            group |= {"fused": True, "foreach": False}
    for state in optimizer.state.values():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].to(device, torch.float32)
    return optimizer.param_groups


def _stateless(optimizer: torch.optim.Optimizer) -> bool:
    plain = isinstance(optimizer, torch.optim.SGD)
    return plain and not any(group["momentum"] for group in optimizer.param_groups)


# -- taking back a bad step ---


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    copies = [torch.empty_like(t) for t in tensors]
    if copies:
        torch._foreach_copy_(copies, [t.detach() for t in tensors])
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
