"""What changes while a network trains, and what a run asks of its job: the same for every kind.

Everything random in a step is a function of (seed, epoch, step), so that a restored session ends
with the same bits.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .. import recorded
from ..data.batches import Shard
from ..delays import AxonalDelay, DelayLinear
from ..errors import ConfigError, DataError, RunError
from ..gradients import set_temporal_gradient
from ..graphs import GraphedStep
from ..kernels import OPS
from ..kernels.choice import Call
from ..kernels.delay import backend_of
from ..kernels.dispatch import choose
from ..kernels.lif import why_not_compiled
from ..learning import round_
from ..neurons import LIF, LeakyReadout
from ..ranks import ALONE, Ranks
from ..recompute import recompute_
from ..recurrent import RecurrentLIF
from ..step_graphs import StepGraphs
from .evaluation import Evaluation, Evaluator
from .machine import seed_init
from .network import new_network
from .report import Report
from .settings import Settings

MADE = 2  # raise this where equal settings come to other frames, splits or images than before
RATES = {"positions": "lr_position", "taus": "lr_tau"}
WITHIN = ("step", "begun", "record", "part_seconds", "counted")  # of an epoch
WAYS = ("capturable", "fused", "foreach")  # how an optimizer computes; each device has its own


@dataclass
class Session:
    """Everything that changes while a network trains; `state` and `restore` are its checkpoint."""

    net: nn.Module
    optimizers: list[torch.optim.Optimizer]
    schedules: list
    epoch: int = 0  # completed epochs
    seconds: float = 0.0
    best: dict = field(default_factory=dict)  # accuracy and epoch of the best one so far
    step: int = 0  # completed steps of the epoch
    begun: list[Tensor] = field(default_factory=list)  # what moves, as the epoch found it
    record: dict | None = None  # of an epoch whose steps are all done, while it is evaluated
    part_seconds: float = 0.0  # of the epoch, before this process
    counted: dict | None = None  # what `update` is to count on from
    after_step: Callable[["Session"], None] | None = None
    update: GraphedStep | None = None  # one step, made by the first
    again: partial | None = None  # the gradients of the last one once more
    steps: StepGraphs | None = None  # one time step of it, where the gradient goes step by step
    evaluator: Evaluator | None = None  # of the result, made by the first evaluation
    average: AveragedModel | None = None  # mean of the net over the last epochs
    ranks: Ranks = ALONE  # the processes that train it together

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.net.parameters()).device

    @property
    def result(self) -> nn.Module:
        """What the run has learned: the network, or its mean over the last epochs."""
        return self.net if self.average is None else self.average.module

    def add_to_average(self) -> None:
        """One more epoch in the mean, of running statistics too (Izmailov et al. 2018, arXiv
        1803.05407)."""
        if self.average is None:
            self._new_average().eval()
        assert self.average is not None
        self.average.update_parameters(self.net)

    def _new_average(self) -> AveragedModel:
        self.average, self.evaluator = AveragedModel(self.net, use_buffers=True), None
        return self.average

    @property
    def done(self) -> bool:
        """Whether nothing is left to learn, however many epochs are: the end of a curriculum."""
        return getattr(self.net, "done", False)

    def rates(self) -> dict[str, float]:
        """Learning rates now: `lr` of the weights and, if they are trained, `lr_position` and
        `lr_tau`."""
        groups = [group for o in self.optimizers for group in o.param_groups]
        return {RATES.get(group["name"], "lr"): group["lr"] for group in groups}

    def hold_positions(self) -> None:
        """Delays become whole steps, and stay while the rest learns."""
        round_(self.net)
        for group in (group for o in self.optimizers for group in o.param_groups):
            if group["name"] == "positions":
                group["lr"] = 0.0

    def end_epoch(self) -> None:
        """The epoch is complete."""
        self.epoch += 1
        self.step, self.begun, self.record, self.part_seconds = 0, [], None, 0.0

    def state(self) -> dict:
        """Plain values for a checkpoint, at any step."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "begun": self.begun,
            "record": self.record,
            "part_seconds": self.part_seconds,
            "counted": self.counted if self.update is None else self.update.state_dict(),
            "seconds": self.seconds,
            "best": self.best,
            "model": self.net.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedules": [s.state_dict() for s in self.schedules],
        }

    def restore(self, state: dict, new_rates: bool = False) -> None:
        """Go back to what `state` returned; with `new_rates` the learning rates and their schedules
        are those that this session was made with, in the same epoch."""
        for name in ("epoch", "seconds", "best", *WITHIN):
            setattr(self, name, state[name])
        self.begun = [t.to(self.device) for t in self.begun]
        put_weights(self.net, state["model"])
        if (average := state.get("average")) is not None:
            put_weights(self._new_average(), average)
        try:
            self._restore_rates(state, new_rates)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"the checkpoint holds other optimizers than this run has ({error}): use the "
                "version that trained it, or train anew"
            ) from error

    def _restore_rates(self, state: dict, new_rates: bool) -> None:
        """Moments, and learning rates with their schedules."""
        ways = [
            [{k: g[k] for k in g if k in WAYS or (new_rates and k != "params")} for g in groups]
            for groups in (o.param_groups for o in self.optimizers)
        ]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for optimizer, groups in zip(self.optimizers, ways, strict=True):
            for group, way in zip(optimizer.param_groups, groups, strict=True):
                group |= way
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            if not new_rates:
                schedule.load_state_dict(saved)
        if new_rates:
            for _ in range(self.epoch):
                self.next_rates()

    def next_rates(self) -> None:
        """The learning rates of the next epoch."""
        with warnings.catch_warnings():
            # torch warns where this process has made no step, or skipped all of them
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for schedule in self.schedules:
                schedule.step()


class Job(Protocol):
    """What stays the same during a run, and what its kind does in its own way; `samples` are a
    part of the data, clips or recordings."""

    @property
    def shard(self) -> Shard:
        """What its batches hold: all of them, or the part of one of several processes."""
        ...

    @property
    def settings(self) -> Settings:
        """Those of the run."""
        ...

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the network that the data say, plain values."""
        ...

    @property
    def train(self) -> Any:
        """The samples to train on; likewise `valid` and `test`, which may be None."""
        ...

    @property
    def valid(self) -> Any: ...

    @property
    def test(self) -> Any: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one step of one sample."""
        ...

    @property
    def steps(self) -> int:
        """Of a usual batch."""
        ...

    def digest(self) -> str:
        """Hash of what the data hold and which of them do what."""
        ...

    def notes(self) -> list[str]:
        """What to tell a user about the data before training."""
        ...

    def new_session(self, net: nn.Module) -> Session:
        """Optimizers and schedules for net."""
        ...

    def batches(self, samples: Any, epoch: int | None = None, *, start_batch: int = 0) -> Iterable:
        """Batches of samples: shuffled and augmented for an epoch, of which the first
        `start_batch` are done, or as stored without one."""
        ...

    def train_epoch(self, session: Session, report: Report) -> dict:
        """One pass over the training samples; returns its record with `loss` and `accuracy`."""
        ...

    def evaluator(self, net: nn.Module) -> Evaluator:
        """What evaluates net as its training was, again and again."""
        ...

    def evaluate(
        self, net: nn.Module, samples: Any, evaluator: Evaluator | None = None
    ) -> Evaluation:
        """Loss, accuracy and spikes of net, delays rounded; by its evaluator if there is one."""
        ...

    def figures(self, net: nn.Module, samples: Any, result: Evaluation) -> dict:
        """Figures of a finished run that only runs of this kind have."""
        ...

    def draw(
        self, session: Session, folder: Path, samples: Any, result: Evaluation, title: str
    ) -> list[Path]:
        """The pictures of a finished run. result: what evaluating samples gave."""
        ...


def new_net(settings: Settings, sizes: Mapping[str, Any], device: torch.device) -> nn.Module:
    """The network before training: the same for the same seed. sizes: as for `new_network`."""
    seed_init(settings.training.seed)
    net = new_network(settings, sizes).to(device)
    set_temporal_gradient(net, settings.training.temporal_gradient)
    if settings.training.recompute:
        recompute_(net)
    return net


def result_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Of a checkpoint: the weights of `Session.result`."""
    if (average := state.get("average")) is None:  # as before there were any
        return state["model"]
    prefix = "module."
    return {k.removeprefix(prefix): v for k, v in average.items() if k.startswith(prefix)}


def put_weights(net: nn.Module, weights: dict[str, Tensor]) -> None:
    """The weights of a checkpoint into a network. RunError if it has others: that of its name was
    another one in the version that trained it, say."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        # torch's first line names the class, each of the others says one thing that is wrong
        _, *faults = (line.strip() for line in str(error).splitlines())
        fault = (faults or [str(error)])[-1].rstrip(".")  # keys that are missing stand first
        raise RunError(
            "the checkpoint holds another network than its settings describe in this version "
            f"({fault}): use the version that trained it, or train anew"
        ) from error


def check_same(job: Job, digest: str) -> None:
    """DataError if the data are not those that had this digest when the run was started: the split
    is drawn anew, and could test on what it trained on."""
    if digest != job.digest():
        raise DataError(
            f"{job.settings.data.dataset} or its images have changed since this run was started, "
            "or this version makes its frames or its split in another way: restore the data, use "
            "the version that trained it, or start a new run"
        )


def backends_of(net: nn.Module, T: int, B: int) -> dict[str, str]:
    """Op -> backend that runs it on the network's device while it trains, several where layers
    differ. T, B: steps and samples of a batch."""
    parameter, found = next(net.parameters()), {}
    place = parameter.device.type
    recurrent = {layer.neuron: layer for layer in net.modules() if isinstance(layer, RecurrentLIF)}
    for layer in net.modules():
        if isinstance(layer, DelayLinear):
            _, N, C = layer.weight.shape
            call = Call(T, B, C, N, layer.max_delay_steps, layer.extra_steps, place)
            op, name = "delay_linear", backend_of("delay_lif", call, layer.backend)
            T += layer.extra_steps
        elif isinstance(layer, AxonalDelay):
            op = "delay_depthwise"
            name = choose(op, OPS[op].backends, layer.backend, place)
            T += layer.extra_steps
        elif isinstance(layer, LIF):
            reason = why_not_compiled(
                parameter.dtype, layer.neuron, layer.options, layer.constants()
            )
            op = "recurrent_lif" if layer in recurrent else "lif"
            backend = recurrent.get(layer, layer).backend
            name = choose(op, OPS[op].backends, backend, place, (("cpu", reason),))
        elif isinstance(layer, LeakyReadout):
            op = "readout"
            name = choose(op, OPS[op].backends, layer.backend, place)
        else:
            continue
        found.setdefault(op, {})[name] = None
    return {op: " and ".join(names) for op, names in found.items()}


def graphs_wanted(settings: Settings) -> bool | None:
    """Whether passes are recorded as CUDA graphs; None: where there is CUDA."""
    return {"auto": None, "on": True, "off": False}[settings.machine.graph]


def graphs_of_evaluation(net: nn.Module, settings: Settings) -> bool:
    """Whether evaluation is recorded as CUDA graphs; a run with graphs can be evaluated
    anywhere."""
    device = next(net.parameters()).device
    return device.type == recorded.DEVICE and graphs_wanted(settings) is not False


def uses_graphs(settings: Settings, device: torch.device) -> bool:
    """Whether training steps are recorded as CUDA graphs.

    Raises ConfigError if that is asked for and cannot be.
    """
    wanted, why_not = graphs_wanted(settings), None
    if device.type != recorded.DEVICE:
        why_not = f"graphs need CUDA, and the device is {device.type}"
    elif settings.training.recompute:
        why_not = "recompute looks at the spikes, and a graph cannot"
    elif settings.kind == "memory":
        why_not = "the heads that learn change, and a graph cannot"
    if wanted and why_not:
        raise ConfigError(f"graph is on, but {why_not}: use --graph auto")
    return wanted is not False and why_not is None
