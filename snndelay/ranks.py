"""Several processes that train one network: each takes a part of every batch, and together they
make the step that one process would make. `torchrun` starts them.

A batch of n samples is divided; process r has n_r of them and a loss L_r, the mean over these. The
loss of the batch is L = sum_r (n_r / n) L_r, so every process scales its own by n_r / n, and the
sum of the gradients is that of L. What looks at a whole batch (statistics of BatchNorm, CKA)
gathers it, and passes gradients back to where they belong.

Legend: R processes, N neurons.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import UserError

Made = TypeVar("Made")


class Ranks:
    """The processes of torch's default group, of which this is number ``rank`` of ``size``; one
    alone where there is no group or it is not ``grouped``. Of the batch at hand, ``total`` is the
    number of samples of all processes, ``own`` those of this one and ``first`` those of the ones
    before it.
    """

    def __init__(self, grouped: bool = True) -> None:
        grouped = grouped and dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if grouped else 0
        self.size = dist.get_world_size() if grouped else 1
        self.total = self.first = self.own = 0

    # -- a step ---

    def meet(self, own: int, *numbers: int) -> list[list[int]]:
        """What every process says, (R, 1 + numbers): how many samples it has for the next step,
        and further numbers."""
        mine = torch.tensor([own, *numbers])
        said = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(said, mine)
        rows = [row.tolist() for row in said]
        counts = [row[0] for row in rows]
        self.own, self.total, self.first = own, sum(counts), sum(counts[: self.rank])
        return rows

    def scale(self, loss: Tensor) -> Tensor:
        """A loss, the mean over this process's samples, as its part in that of the whole batch."""
        return loss if self.size == 1 else loss * (self.own / self.total)

    def gathered(self, x: Tensor, dim: int) -> Tensor:
        """The samples of all processes on axis ``dim``, from those of each; differentiable."""
        if self.size == 1:
            return x
        shape = list(x.shape)
        shape[dim] = self.total
        return _Gathered.apply(x, shape, dim, self.first, None)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Every tensor becomes its sum over the processes: one message for those of a type."""
        if self.size == 1:
            return
        for dtype in dict.fromkeys(t.dtype for t in tensors):
            same = [t.detach() for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.flatten() for t in same])
            dist.all_reduce(flat)
            parts = flat.split([t.numel() for t in same])
            views = [part.view(t.shape) for part, t in zip(parts, same, strict=True)]
            for t, view in zip(same, views, strict=True):
                t.copy_(view)

    # -- what they agree on ---

    def most(self, number: int) -> int:
        """The largest of the numbers of all processes."""
        if self.size == 1:
            return number
        value = torch.tensor([number])
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def wait(self) -> None:
        """Until all processes are here."""
        self.most(0)

    def everyone(self, mine: Made) -> list[Made]:
        """What every process has, anything that can be pickled, in their order."""
        if self.size == 1:
            return [mine]
        all_of_them: list[Any] = [None] * self.size
        dist.all_gather_object(all_of_them, mine)
        return all_of_them

    def all(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns here, once every process has made its own. A UserError of one of
        them is raised in all."""
        made, error = _tried(make)
        self.tell(error)
        return made

    def one(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns in the first process, in all of them; likewise its UserError."""
        made, error = _tried(make) if self.rank == 0 else (None, None)
        made = self.everyone(made)[0]
        self.tell(error)
        return made  # type: ignore[return-value]

    def tell(self, own: UserError | None) -> None:
        """Raises this process's error, or that of the first one that has any; all must call it."""
        errors = self.everyone(own and (str(own), own.exit_code))
        if own is not None and not any(errors[: self.rank]):
            raise own
        for rank, error in enumerate(errors):
            if error is not None:
                raise Elsewhere(rank, *error)


class Elsewhere(UserError):
    """An error of one of several processes, as it is raised in the others."""

    def __init__(self, rank: int, text: str, exit_code: int):
        super().__init__(f"process {rank}: {text}")
        self.exit_code = exit_code


def _tried(make: Callable[[], Any]) -> tuple[Any, UserError | None]:
    try:
        return make(), None
    except UserError as error:
        return None, error


def over_ranks(
    mean_N: Tensor, var_N: Tensor, rows: int, group: Any = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance over the rows of all processes of a group, and the number of these,
    (), from mean and variance over the ``rows`` of each; differentiable in the first two.

    Source: Chan, Golub and LeVeque 1979 (statistics of parts that are joined).
    """
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    mine = torch.cat([mean_N, var_N, mean_N.new_full((1,), rows)]).double()
    all_RN = _Gathered.apply(mine[None], [size, len(mine)], 0, rank, group)
    mean_RN, var_RN, rows_R1 = all_RN.split([len(mean_N), len(mean_N), 1], 1)
    total = rows_R1.detach().sum()
    part_R1 = rows_R1.detach() / total
    mean_all_N = (part_R1 * mean_RN).sum(0)
    var_all_N = (part_R1 * (var_RN + (mean_RN - mean_all_N).square())).sum(0)
    return mean_all_N.to(mean_N.dtype), var_all_N.to(var_N.dtype), total


class _Gathered(torch.autograd.Function):
    """Parts that differ in length, put one after the other: a sum of tensors that are 0 elsewhere,
    which all backends can do."""

    @staticmethod
    def forward(ctx, x, shape, dim, first, group):
        ctx.where = (dim, first, x.shape[dim], group)
        whole = x.new_zeros(shape)
        whole.narrow(dim, first, x.shape[dim]).copy_(x)
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        dim, first, n, group = ctx.where
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad, group=group)
        return grad.narrow(dim, first, n), None, None, None, None


ALONE = Ranks(grouped=False)
