"""The settings of runs on memory tasks; `settings.py` says how such lines are read."""
# ruff: noqa: E501 (a setting stands on one line, however long, so that the file reads as a table)
# fmt: off

from dataclasses import dataclass
from typing import ClassVar

from ..delays.recurrent import RECURRENT_KINDS
from ..errors import ConfigError
from ..kernels import SURROGATES
from ..networks import networks_of
from .fields import MANY, Component, setting

CURRICULA = ("single", "single-head", "multi-head")


@dataclass(frozen=True)
class MemoryData(Component):
    """The task, whose trials are drawn as they are needed."""

    protocol: ClassVar[str] = "clean"
    dataset: str = setting("n-parity", "n-parity: is the sum of the last N bits odd; n-dms: is the N-th bit from the end as the last one")
    batch_size: int = setting(128, "trials per training step", 1, MANY)
    steps_per_epoch: int = setting(50, "training steps between two looks at the accuracy", 1, MANY)
    n_test: int = setting(1024, "trials of each N to validate and to test on", 1, MANY)
    bit_steps: int = setting(1, "steps for which each bit is shown", 1, 1000)


@dataclass(frozen=True)
class Curriculum(Component):
    """Which N are learned, and when the next one comes."""

    curriculum: str = setting("multi-head", "single: n_start alone; single-head: one N after the other; multi-head: each N beside all before it", choices=CURRICULA)
    n_start: int = setting(2, "first N", 2, 1000)
    n_max: int = setting(20, "last N, with which the run ends", 2, 1000, needs="curriculum=single-head|multi-head")
    threshold: float = setting(0.98, "accuracy above which an N is solved: of the N that is learned, or of every head with multi-head", 0.5, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.curriculum != "single" and self.n_max < self.n_start:
            raise ConfigError(f"n_max is {self.n_max}: choose n_start, {self.n_start}, or more")


@dataclass(frozen=True)
class MemoryNetwork(Component):
    """One recurrent layer, and a readout for every N."""

    network: str = setting("rate", "layout", choices=lambda: networks_of("memory"))
    n_hidden: int = setting(128, "recurrent neurons", 1, 100_000)
    delay_kind: str = setting("axonal", "axonal: one delay per sending neuron; synaptic: one per synapse", choices=RECURRENT_KINDS, needs="delays=learned|fixed|frozen")


@dataclass(frozen=True)
class MemoryNeurons(Component):
    """The recurrent neurons, each with a time constant of its own."""

    tau: float = setting(2.0, "largest time constant at the start, in steps; each is drawn uniformly from 1 to it", 1.0, 1e6)
    tau_out: float = setting(2.0, "time constant of the readout's integrators, in steps", 1.0, 1e6, needs="network=spiking")
    v_threshold: float = setting(1.0, "membrane potential at which a neuron spikes", 1e-6, 1e6, needs="network=spiking")
    reset: str = setting("soft", "after a spike: hard (to 0), soft (minus the threshold) or none", choices=("hard", "soft", "none"), needs="network=spiking")
    surrogate: str = setting("atan", "derivative of the spike", choices=SURROGATES, needs="network=spiking")
    surrogate_alpha: float | None = setting(None, "sharpness of the surrogate; null: the usual one of its shape (5 for atan)", 1e-6, 1e6, needs="network=spiking")


@dataclass(frozen=True)
class MemoryTraining(Component):
    """Adam, cross-entropy at the last step, and how long it may take."""

    temporal_gradient: ClassVar[str] = "bptt"
    recompute: ClassVar[bool] = False
    amp: ClassVar[bool] = False
    average_fraction: ClassVar[float] = 0.0
    epochs: int = setting(300, "epochs of steps_per_epoch steps, at most", 1, MANY)
    lr: float = setting(1e-3, "learning rate of weights and heads", 1e-12, 100)
    lr_tau: float = setting(1e-2, "learning rate of the time constants, in steps, or of their logarithms (spiking); 0: they stay as drawn", 0, 100)
    lr_position: float = setting(0.1, "learning rate of the delay positions, in steps", 0, 1000, needs="delays=learned")
    grad_clip: float | None = setting(1.0, "largest norm of the gradient; null: no limit", 1e-12, 1e12)
    seed: int = setting(0, "seed of everything random; weights and trials", 0, 2**31 - 1)
