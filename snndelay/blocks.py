"""The block of a delay network, and BatchNorm as the blocks run it.

Legend: T time steps, B batch, C input channels, N neurons.
"""

from functools import partial
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .delays import DelayLinear, SharedDelayLinear
from .kernels import lif
from .kernels.delay_lif import (
    RUNNING,
    batch_statistics,
    delay_lif,
    fold_norm,
    update_running_,
)
from .kernels.dropout import Dropout
from .kernels.neurons import State
from .neurons import LIF, SpikeDropout
from .parts import drawn, fire, hooked, one_op, plain, scanned
from .ranks import over_ranks

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def of_batch(norm: BatchNorm) -> bool:
    """Whether a BatchNorm normalises by the statistics of the batch."""
    return norm.training or norm.running_mean is None


def of_ranks(norm: BatchNorm) -> bool:
    """Whether these statistics are those of all processes of a group."""
    if not (isinstance(norm, nn.SyncBatchNorm) and norm.training and dist.is_initialized()):
        return False
    return dist.get_world_size(norm.process_group) > 1


@torch.no_grad()
def remember(
    norm: BatchNorm, mean_N: Tensor, var_N: Tensor, rows: int | Tensor, backend: str = "auto"
) -> None:
    """Updates the running statistics of a BatchNorm that trains, as its own forward does. rows: a
    tensor () where they are those of several processes.

    Raises:
        ValueError: a single row has no variance.
    """
    if isinstance(rows, Tensor):
        backend = "reference"  # others want the number on the host
    elif norm.training and rows == 1:
        raise ValueError("training with BatchNorm needs more than one step, sample or place")
    if not norm.training or norm.running_mean is None:
        return
    assert norm.running_var is not None and norm.num_batches_tracked is not None
    kept = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
    backend = backend if backend in RUNNING else "auto"
    update_running_(mean_N, var_N, *kept, norm.momentum, rows, backend)


def normalisation(norm: BatchNorm, y_TBN: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """The pair (scale, shift), each (N,), that a BatchNorm comes to for ``y``, (T, B, N): by the
    statistics of this batch, which it remembers while it trains, or by the running ones. A
    ``nn.SyncBatchNorm`` takes those of the batch over all processes of its group.

    Raises:
        ValueError: training on a single row.
    """
    mean_N, var_N = norm.running_mean, norm.running_var
    if of_batch(norm):
        mean_N, var_N = batch_statistics(y_TBN, "reference" if backend == "reference" else "auto")
        rows: Any = y_TBN.numel() // y_TBN.shape[-1]
        if of_ranks(norm):
            group: Any = norm.process_group  # type: ignore[union-attr]
            mean_N, var_N, rows = over_ranks(mean_N, var_N, rows, group)
        remember(norm, mean_N, var_N, rows, backend)
    return fold_norm(mean_N, var_N, norm.weight, norm.bias, norm.eps)


def normalised(norm: Any, x: Tensor) -> Tensor:
    """What a norm makes of rows (M, N) or pictures (M, N, H, W); the ``forward`` of torch's
    ``SyncBatchNorm`` knows GPUs alone."""
    if not plain(norm, nn.SyncBatchNorm):
        return norm(x)
    y = x.movedim(1, -1)
    scale_N, shift_N = normalisation(norm, y.reshape(1, -1, y.shape[-1]), "auto")
    return (y * scale_N + shift_N).to(x.dtype).movedim(-1, 1)


class DelayLIF(nn.Module):
    """The block of a delay network: delays -> BatchNorm over time and batch -> neuron -> dropout on
    the spikes.

    Args:
        delay: its synapses, of any kind.
        neuron: its neurons.
        dropout: probability of silencing a spike train while training.
        dropout_mask: ``held`` over time or new at every ``step``.
        batchnorm: normalises the input current per neuron.

    Shapes: (T, B, C) -> (T + extra_steps, B, N). While training, delays, BatchNorm, neuron and
    dropout run as one op (``kernels.delay_lif``). A part with hooks (a monitor, pruning) or of
    another class (parametrised weights, another ``norm``) is called as a module, and then so are
    those around it: to the same values but for rounding, at the cost of the current in memory.
    Another ``norm`` sees (steps x samples, N); a ``nn.SyncBatchNorm`` (see
    ``convert_sync_batchnorm``) takes the statistics of all processes of its group, on a CPU too.

    Raises:
        ValueError: training with BatchNorm on a single step of a single sample.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.
    """

    def __init__(
        self,
        delay: DelayLinear | SharedDelayLinear,
        neuron: LIF,
        *,
        dropout: float = 0.0,
        dropout_mask: str = "held",
        batchnorm: bool = True,
    ):
        super().__init__()
        self.delay, self.neuron = delay, neuron
        self.norm = nn.BatchNorm1d(delay.n_out) if batchnorm else nn.Identity()
        self.dropout = SpikeDropout(dropout, dropout_mask)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Spikes after dropout."""
        return self._run(x_TBC, drawn(self.dropout, None, x_TBC.device))

    def spikes(self, x_TBC: Tensor) -> Tensor:
        """Spikes before dropout."""
        return self._run(x_TBC, None)

    @property
    def packs(self) -> bool:
        """Whether spikes may leave as bits: nobody looks at the parts or at the block."""
        return plain(self.delay, DelayLinear) and self._as_one() and not hooked(self)

    @torch.no_grad()
    def packed(self, x_TBC: Tensor) -> Tensor:
        """Evaluation on bits: spikes (T, B, ceil(N / 32)) int32, from spikes or from such bits.

        Raises:
            ValueError: the layer is training, its delays are not rounded, or see ``packs``.
        """
        if self.training or self.delay.rounded is False:
            raise ValueError("packed spikes are for evaluation on rounded delays: call .eval()")
        if not self.packs:
            raise ValueError("a block whose parts have hooks or other classes packs no spikes")
        return self._fire(self.delay(x_TBC), None, None, packed=True)[0]

    def scan(self, x_TBC: Tensor, state=None, potentials: bool = False) -> tuple:
        """Like ``forward``, carrying on from ``state``, the triple (delay history, neuron state,
        seed of the dropout mask) that it returns after the spikes; with ``potentials`` the membrane
        potentials follow, see ``LIF.scan``.
        """
        history, v, seed = state or (None, None, None)
        current_TBN, history = scanned(self.delay, x_TBC, history)
        dropout = drawn(self.dropout, seed, x_TBC.device)
        s_TBN, v, *u_TBN = self._fire(current_TBN, v, dropout, potentials=potentials)
        return s_TBN, (history, v, dropout and dropout.seed), *u_TBN

    def _as_one(self) -> bool:
        """Whether norm, neuron and dropout may run as one op."""
        known = plain(self.norm, *NORMS, nn.Identity)
        return known and one_op(self.neuron, self.dropout)

    def _run(self, x_TBC: Tensor, dropout: Dropout | None) -> Tensor:
        d, norm = self.delay, self.norm
        wide = d.training and d.rounded is None and d.delays != "none"
        wide = wide and plain(d, DelayLinear) and self._as_one()
        wide = wide and isinstance(norm, NORMS) and of_batch(norm) and not of_ranks(norm)
        if not (wide and d.backend == self.neuron.backend):
            return self._fire(d(x_TBC), None, dropout)[0]
        beta_N: Any = norm.bias
        if isinstance(d.bias, Tensor):  # BatchNorm takes it away again: its gradient is 0
            beta_N = d.bias * 0 + (0 if beta_N is None else beta_N)
        s_TBN, _, (mean_N, var_N) = delay_lif(
            *(x_TBC, d.synapses, norm.weight, beta_N),
            extra_steps=d.extra_steps,
            eps=norm.eps,
            dropout=dropout,
            backend=d.backend,
            **self.neuron.settings(),
        )
        mean_N = mean_N + d.bias if isinstance(d.bias, Tensor) else mean_N
        remember(norm, mean_N, var_N, s_TBN.numel() // s_TBN.shape[-1], d.backend)
        return s_TBN

    def _fire(
        self, current_TBN: Tensor, v: State | None, dropout: Dropout | None, **wanted: bool
    ) -> tuple:
        """Spikes of a current that is still to be normalised, the state after them and, if wanted,
        the potentials.
        """
        norm, n, pair = self.norm, self.neuron, None
        if not self._as_one():
            if isinstance(norm, nn.InstanceNorm1d):
                raise ValueError(
                    "InstanceNorm1d has nothing to average over in a current (T, B, N)"
                )
            y_TBN = normalised(norm, current_TBN.flatten(0, 1)).view_as(current_TBN)
            y_TBN = y_TBN.to(current_TBN.dtype)
            scan = partial(n.scan, potentials=True) if wanted.get("potentials") else None
            return fire(n, self.dropout, y_TBN, v, dropout, scan)
        if isinstance(norm, NORMS):
            pair = normalisation(norm, current_TBN, n.backend)
        how = dict(norm=pair, dropout=dropout, backend=n.backend)
        return lif(current_TBN, v, **how, **wanted, **n.settings())
