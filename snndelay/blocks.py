"""Layers for one's own spiking networks: synaptic delays, neurons, and the block of both.

Legend: T time steps, B batch, C input channels, N neurons, K delay taps, E elements per synapse.
Time first, state explicit: ``layer(x_TBC)`` starts at rest and returns a tensor, so layers stand in
``nn.Sequential`` and beside SpikingJelly modules in multi-step mode; ``layer.scan(x_TBC, state)``
also takes and returns the state, so a stream can be fed in chunks.
"""

from dataclasses import replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .delays import DelayLinear
from .kernels import NEURONS, NeuronOptions, Synapses, lif, readout
from .kernels.delay_lif import batch_statistics, delay_lif, fold_norm
from .kernels.dropout import Dropout
from .kernels.neurons import State

__all__ = ["LIF", "DelayLIF", "DelayLinear", "LeakyReadout", "SpikeDropout"]


class LIF(nn.Module):
    """A layer of spiking neurons, any entry of ``NEURONS``: (T, B, N) input current -> (T, B, N)
    spikes.

    Args:
        n_neurons: neurons N; None: one value of each constant for the whole layer.
        tau: membrane time constant in steps, > 1 (``lif``, and the start of ``plif``); a float or
            one value per neuron.
        neuron: key of ``NEURONS``.
        learned: whether the constants are parameters; None: as the neuron's entry says.
        dt_ms: length of a step; scales the ranges of constants that are given in milliseconds
            (``adlif``).
        backend: backend of the op, see ``kernels.lif``.
        options: fields of ``NeuronOptions`` (``v_threshold``, ``reset``, ``surrogate``, ...).

    Constants become parameters or buffers under their own names (``layer.tau``, ``layer.tau_u``,
    ...).

    Raises:
        ValueError: unknown neuron or option, or tau < 1.

    Source: see ``kernels.lif``.
    """

    def __init__(
        self,
        n_neurons: int | None = None,
        tau: float | Tensor = 2.0,
        *,
        neuron: str = "lif",
        learned: bool | None = None,
        dt_ms: float = 10.0,
        backend: str = "auto",
        **options,
    ):
        super().__init__()
        if neuron not in NEURONS:
            raise ValueError(f"neuron must be one of {', '.join(NEURONS)}, not {neuron!r}")
        lowest = float(torch.as_tensor(tau).min())
        if lowest < 1 or (lowest == 1 and neuron == "plif"):
            raise ValueError(f"tau must be at least 1 step (more than 1 for plif), not {lowest}")
        self.neuron, self.backend, self.dt_ms = neuron, backend, dt_ms
        self.options = NeuronOptions(**options)
        tau = torch.as_tensor(tau, dtype=torch.float32)
        if n_neurons is not None:
            tau = tau.expand(n_neurons)
        for name, constant in NEURONS[neuron].constants.items():
            value = constant.init(tau, dt_ms).contiguous()
            if constant.learned if learned is None else learned:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def constants(self) -> dict[str, Tensor]:
        """The neuron's constants by name."""
        return {name: getattr(self, name) for name in NEURONS[self.neuron].constants}

    @torch.no_grad()
    def clamp_(self) -> None:
        """Puts learned constants back into their ranges; call it after every optimizer step."""
        for name, constant in NEURONS[self.neuron].constants.items():
            getattr(self, name).clamp_(*constant.bounds(self.dt_ms))

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Spikes of neurons that start at rest, (T, B, N)."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Spikes and the state after the last step; ``state`` None: at rest."""
        return lif(x_TBN, state, backend=self.backend, **self.settings())

    def settings(self) -> dict:
        """What ``lif`` and ``delay_lif`` need to know of the neuron."""
        return dict(neuron=self.neuron, options=self.options, **self.constants())

    def extra_repr(self) -> str:
        return f"{self.neuron}, {self.options}"


class LeakyReadout(nn.Module):
    """Leaky integrator without spikes: (T, B, N) input current -> (T, B, N) potential.

    Args:
        tau: time constant in steps, >= 1.
        backend: backend of the op, see ``kernels.readout``.

    Raises:
        ValueError: tau < 1.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.3.
    """

    def __init__(self, tau: float = 2.0, *, backend: str = "auto"):
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau must be at least 1 step, not {tau}")
        self.tau, self.backend = float(tau), backend

    def forward(self, x_TBN: Tensor) -> Tensor:
        """Potential after each step, (T, B, N), from rest."""
        return self.scan(x_TBN)[0]

    def scan(self, x_TBN: Tensor, v_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Potential after each step and the last one, which is the state."""
        v_TBN = readout(x_TBN, v_BN, self.tau, self.backend)
        return v_TBN, v_TBN[-1]

    def extra_repr(self) -> str:
        return f"tau={self.tau}"


class SpikeDropout(nn.Module):
    """Dropout on spikes, (T, B, N) -> (T, B, N).

    Args:
        p: probability of silencing.
        mask: ``held``: one mask per sample for all steps (published); ``step``: a new one at every
            step.
    """

    def __init__(self, p: float, mask: str = "held"):
        super().__init__()
        if not 0 <= p < 1 or mask not in ("held", "step"):
            raise ValueError(
                f"dropout must be in [0, 1) and its mask held or step, not {p} and {mask!r}"
            )
        self.p, self.mask = p, mask

    def forward(self, s_TBN: Tensor) -> Tensor:
        """Silences a random part of the neurons and scales the rest by 1/(1-p); nothing outside
        training.
        """
        if not self.training or self.p == 0:
            return s_TBN
        if self.mask == "step":
            return F.dropout(s_TBN, self.p)
        return s_TBN * F.dropout(torch.ones_like(s_TBN[0]), self.p)

    def draw(self, device: torch.device) -> Dropout | None:
        """What makes ``lif`` do the same to its spikes, with a new seed; None outside training."""
        if not self.training or self.p == 0:
            return None
        return Dropout(self.p, self.mask, torch.randint(2**62, (), device=device))

    def draw_after(self, seed: Tensor | None, device: torch.device) -> Dropout | None:
        """``draw`` for a chunk of a stream; a held mask stays that of the chunk before, which came
        from ``seed``.
        """
        drawn = self.draw(device)
        keeps = drawn is not None and seed is not None and self.mask == "held"
        return replace(drawn, seed=seed) if keeps else drawn

    def extra_repr(self) -> str:
        return f"{self.p}, mask={self.mask}"


BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def of_batch(norm: BatchNorm) -> bool:
    """Whether a BatchNorm normalises by the statistics of the batch."""
    return norm.training or norm.running_mean is None


@torch.no_grad()
def remember(norm: BatchNorm, mean_N: Tensor, var_N: Tensor, rows: int) -> None:
    """Updates the running statistics of a BatchNorm that trains, as its own forward does.

    Raises:
        ValueError: a single row has no variance.
    """
    if norm.training and rows == 1:
        raise ValueError("training with BatchNorm needs more than one step, sample or place")
    if not norm.training or norm.running_mean is None:
        return
    norm.num_batches_tracked += 1
    part = norm.momentum
    if part is None:  # cumulative average
        part = 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean_N.to(norm.running_mean.dtype), part)
    norm.running_var.lerp_(var_N.to(norm.running_var.dtype) * (rows / (rows - 1)), part)


def normalisation(norm: BatchNorm, y_TBN: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """The pair (scale, shift), each (N,), that a BatchNorm comes to for ``y``, (T, B, N): by the
    statistics of this batch, which it remembers while it trains, or by the running ones.

    Raises:
        ValueError: training on a single row.
    """
    mean_N, var_N = norm.running_mean, norm.running_var
    if of_batch(norm):
        mean_N, var_N = batch_statistics(y_TBN, "reference" if backend == "reference" else "auto")
        remember(norm, mean_N, var_N, y_TBN.numel() // y_TBN.shape[-1])
    return fold_norm(mean_N, var_N, norm.weight, norm.bias, norm.eps)


class DelayLIF(nn.Module):
    """The block of a delay network: delays -> BatchNorm over time and batch -> neuron -> dropout on
    the spikes.

    Args:
        delay: its synapses.
        neuron: its neurons.
        dropout: probability of silencing a spike train while training.
        dropout_mask: ``held`` over time or new at every ``step``.
        batchnorm: normalises the input current per neuron.

    Shapes: (T, B, C) -> (T + extra_steps, B, N). While training, delays, BatchNorm, neuron and
    dropout run as one op (``kernels.delay_lif``), so forward hooks on the parts are not called.

    Raises:
        ValueError: training with BatchNorm on a single step of a single sample.

    Source: Hammouamri et al. 2024 (arXiv 2306.17670), section 3.
    """

    def __init__(
        self,
        delay: DelayLinear,
        neuron: LIF,
        *,
        dropout: float = 0.0,
        dropout_mask: str = "held",
        batchnorm: bool = True,
    ):
        super().__init__()
        self.delay, self.neuron = delay, neuron
        self.norm = nn.BatchNorm1d(delay.weight.shape[1]) if batchnorm else nn.Identity()
        self.dropout = SpikeDropout(dropout, dropout_mask)

    def forward(self, x_TBC: Tensor) -> Tensor:
        """Spikes after dropout."""
        return self._run(x_TBC, self.dropout.draw(x_TBC.device))

    def spikes(self, x_TBC: Tensor) -> Tensor:
        """Spikes before dropout."""
        return self._run(x_TBC, None)

    @torch.no_grad()
    def packed(self, x_TBC: Tensor) -> Tensor:
        """Evaluation on bits: spikes (T, B, ceil(N / 32)) int32, from spikes or from such bits.

        Raises:
            ValueError: the layer is training, or its delays are not rounded.
        """
        if self.training or self.delay.rounded is False:
            raise ValueError("packed spikes are for evaluation on rounded delays: call .eval()")
        return self._fire(self.delay(x_TBC), None, None, packed=True)[0]

    def scan(self, x_TBC: Tensor, state=None) -> tuple[Tensor, tuple]:
        """Like ``forward``, carrying on from ``state``, the triple (delay history, neuron state,
        seed of the dropout mask) that it returns.
        """
        history, v, seed = state or (None, None, None)
        current_TBN, history = self.delay.scan(x_TBC, history)
        dropout = self.dropout.draw_after(seed, x_TBC.device)
        s_TBN, v = self._fire(current_TBN, v, dropout)
        return s_TBN, (history, v, dropout and dropout.seed)

    def _run(self, x_TBC: Tensor, dropout: Dropout | None) -> Tensor:
        d, norm = self.delay, self.norm
        wide = d.training and d.rounded is None and d.delays != "none"
        wide = wide and type(d) is DelayLinear and type(self.neuron) is LIF  # not one's own layers
        wide = wide and type(norm) is nn.BatchNorm1d and of_batch(norm)
        if not (wide and d.backend == self.neuron.backend):
            return self._fire(d(x_TBC), None, dropout)[0]
        s_TBN, _, statistics = delay_lif(
            x_TBC,
            Synapses(d.weight, d.position, d.sigma, d.max_delay_steps, d.version),
            *(norm.weight, norm.bias),
            extra_steps=d.extra_steps,
            eps=norm.eps,
            dropout=dropout,
            backend=d.backend,
            **self.neuron.settings(),
        )
        remember(norm, *statistics, s_TBN.numel() // s_TBN.shape[-1])
        return s_TBN

    def _fire(
        self, current_TBN: Tensor, v: State | None, dropout: Dropout | None, packed: bool = False
    ) -> tuple[Tensor, State]:
        """Spikes of a current that is still to be normalised, and the state after them."""
        norm, pair = self.norm, None
        if type(norm) is nn.BatchNorm1d:
            pair = normalisation(norm, current_TBN, self.neuron.backend)
        else:  # none, or one that was put in its place
            current_TBN = norm(current_TBN.flatten(0, 1)).view_as(current_TBN)
        n = self.neuron
        how = dict(norm=pair, dropout=dropout, packed=packed, backend=n.backend)
        return lif(current_TBN, v, **how, **n.settings())
