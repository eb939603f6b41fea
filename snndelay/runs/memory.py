"""Runs on memory tasks: recurrent networks, and a curriculum over N.

An epoch is a number of training steps, then a look at the accuracy of every head so far on trials
with balanced bits: where it passes the threshold, the N is solved and the next epoch learns the
next one. The run ends when the last N is solved, or its epochs are over.

Legend: T time steps, B trials, H heads, M classes of a head (2), N neurons.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batches import ALL, Shard
from ..data.catalog import open_task
from ..data.seeds import generator
from ..data.tasks.memory import SHORTEST, Batch, MemoryTask
from ..errors import ConfigError
from ..learning import delay_layers, unrounded
from ..tau_net import effective_timescales
from .evaluation import Evaluation, evaluating, rounds
from .report import Report, read_metrics
from .session import MADE, Session, check_same, new_net
from .settings import MemorySettings
from .steps import steps_left, take_step, totals

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of time constants, in metrics.jsonl
PROBE_STEPS, PROBE_TRIALS = 1100, 16  # under which they are measured within the network


@dataclass(frozen=True)
class Trials:
    """One part of a task, `train`, `valid` or `test`: trials of the values `ns` of N, which are its
    classes; `n`: how many, of each N or (train) in an epoch."""

    part: str
    ns: tuple[int, ...]
    n: int

    @property
    def classes(self) -> list[str]:
        """Names of the values of N."""
        return [f"N = {n}" for n in self.ns]

    def __len__(self) -> int:
        return self.n if self.part == "train" else self.n * len(self.ns)


class Drawn(Sequence):
    """Batches that are drawn when they are asked for. draw: number of a batch -> Batch."""

    def __init__(self, draw: Any, n_batches: int):
        self.draw, self.n_batches = draw, n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, step: int) -> Batch:  # type: ignore[override]
        if step >= self.n_batches:
            raise IndexError(step)
        return self.draw(step)


@dataclass(frozen=True)
class MemoryJob:
    """What stays the same during a run on a memory task; `Job` in session.py says what each method
    does. `valid` is None: the curriculum looks at trials of its own after each epoch."""

    settings: MemorySettings
    task: MemoryTask
    train: Trials
    test: Trials
    valid: None = None
    shard: Shard = ALL  # what batches hold

    @property
    def sizes(self) -> dict[str, Any]:
        """Nothing: every task has one input and two classes."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """One bit."""
        return (1,)

    @property
    def steps(self) -> int:
        """Of the shortest batch for the first N."""
        return (self.train.ns[0] + SHORTEST) * self.settings.data.bit_steps

    def digest(self) -> str:
        """Hash of the task and of its first trials."""
        x, label_HB = self.task.test_batch(self.train.ns[0], 8, 0, 0)
        content = [MADE, self.task.name, x.tolist(), label_HB.tolist()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def notes(self) -> list[str]:
        """How the curriculum goes."""
        c, ns = self.settings.curriculum, self.train.ns
        which = f"N = {ns[0]} alone" if len(ns) == 1 else f"N from {ns[0]} to {ns[-1]}"
        drawn = f"{self.settings.data.steps_per_epoch} steps an epoch, each on trials drawn for it"
        above = f"solved above {c.threshold:.1%} of {self.settings.data.n_test} trials, chance 50 %"
        return [f"curriculum {c.curriculum}: {which}; {drawn}", above]

    def new_session(self, net: nn.Module) -> Session:
        """Adam for weights, time constants and positions of delays, at constant rates."""
        train = self.settings.training
        rates = {"weights": train.lr, "taus": train.lr_tau, "positions": train.lr_position}
        parts: dict[str, list] = {name: [] for name in rates}
        for name, p in net.named_parameters():
            kind = next((k for k in ("position", "tau") if name.endswith(k)), "weight")
            if p.requires_grad:
                parts[f"{kind}s"].append(p)
        groups = [{"name": n, "params": ps, "lr": rates[n]} for n, ps in parts.items() if ps]
        return Session(net, [torch.optim.Adam(groups)], [])

    def learning(self, net: Any) -> list[int]:
        """The values of N whose heads learn now."""
        every = self.settings.curriculum.curriculum == "multi-head"
        return trained(self, net) if every else [net.current]

    def batches(
        self,
        samples: Trials,
        epoch: int | None = None,
        ns: Sequence[int] | None = None,
        start_batch: int = 0,
    ) -> Sequence[Batch]:
        """Batches for some values of N, those of samples unless `ns` says others. Of trials to test
        on, `ns` is one N. `start_batch`: how many of them are already done."""
        data, seed, ns = self.settings.data, self.settings.training.seed, ns or samples.ns
        B, epoch = data.batch_size, epoch or 0

        def draw(step: int) -> Batch:
            step += start_batch
            if samples.part == "test":
                batch = self.task.test_batch(ns[0], B, seed, step)
            elif samples.part == "valid":
                batch = self.task.valid_batch(ns, B, seed, epoch, step)
            else:
                batch = self.task.train_batch(ns, B, seed, epoch, step)
            x = batch.x.repeat_interleave(data.bit_steps, 0)
            here = slice(*self.shard.bounds(B))
            return batch._replace(x=x[:, here], label_HB=batch.label_HB[:, here])

        return Drawn(draw, -(-samples.n // B) - start_batch)

    def train_epoch(self, session: Session, report: Report) -> dict:
        """See `train_epoch` below."""
        return train_epoch(self, session, report)

    def evaluator(self, net: nn.Module) -> Any:
        """None: `evaluate` needs nothing that lasts."""
        return None

    def evaluate(self, net: nn.Module, samples: Trials, evaluator: Any = None) -> Evaluation:
        """See `evaluate` below."""
        return evaluate(self, net, samples)

    def figures(self, net: Any, samples: Trials, result: Evaluation) -> dict:
        """How far the curriculum came, what every head so far does on fresh trials, how much
        rounding the delays costs, and time constants in steps: of the neurons, and of their
        activity within the network."""
        exact = evaluate(self, unrounded(net), samples) if rounds(net) else result
        per_n = accuracy_per_n(self, result)
        return {
            "rounding_gap": exact.accuracy - result.accuracy,
            "curriculum": self.settings.curriculum.curriculum,
            "largest_n": net.solved,
            "last_n": net.current,
            "complete": net.done,
            "accuracy_per_n": per_n,
            "n_per_n": result.n // len(per_n),
            **of_neurons(net),
            **of_network(self, net),
        }

    def draw(
        self, session: Session, folder: Path, samples: Trials, result: Evaluation, title: str
    ) -> list[Path]:
        """The curriculum, the time constants, and the delays if there are any."""
        from .plots import memory as plots  # matplotlib is slow to import

        records = read_metrics(folder / "metrics.jsonl")
        path = {name: folder / f"{name}.png" for name in ("curriculum", "timescales")}
        threshold = self.settings.curriculum.threshold
        plots.curriculum(records, accuracy_per_n(self, result), threshold, path["curriculum"])
        plots.timescales(records, path["timescales"])
        if self.settings.delays.delays != "none":
            path["delays"] = folder / "delays.png"
            nets = new_net(self.settings, self.sizes, session.device), session.net
            start, end = (delay_layers(net)[0].delay_steps.cpu().numpy() for net in nets)
            plots.delays(start, end, self.settings.delays.max_delay_steps, path["delays"])
        return list(path.values())


def open_job(settings: MemorySettings) -> MemoryJob:
    """The job of a run on a memory task. DataError for an unknown one."""
    c, data = settings.curriculum, settings.data
    last = c.n_start if c.curriculum == "single" else c.n_max
    ns = tuple(range(c.n_start, last + 1))
    train = Trials("train", ns, data.steps_per_epoch * data.batch_size)
    # whole batches, so that every figure is over as many trials as it says
    n_test = -(-data.n_test // data.batch_size) * data.batch_size
    return MemoryJob(settings, open_task(data.dataset), train, Trials("test", ns, n_test))


def open_test(
    settings: MemorySettings, digest: str, test_file: str | None, device: torch.device
) -> MemoryJob:
    """The job of a run whose task had this digest.

    Raises ConfigError for other data, DataError if the task's trials are others now.
    """
    if test_file is not None:
        raise ConfigError("there are no other data: the trials of a memory task are drawn")
    job = open_job(settings)
    check_same(job, digest)
    return job


def trained(job: MemoryJob, net: Any) -> list[int]:
    """The values of N whose heads have learned or learn now."""
    return [n for n in job.train.ns if n <= net.current]


def step_gradients(
    job: MemoryJob, session: Session, x_TB1: Tensor, label_HB: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of the mean cross-entropy of the heads that learn. Its value, and sums over the
    trials, float64: of `loss`, and of the part of the heads that is `correct`."""
    logits_HBM = session.net(x_TB1, job.learning(session.net))
    loss = F.cross_entropy(logits_HBM.flatten(0, 1), label_HB.flatten())
    session.ranks.scale(loss).backward()
    correct = (logits_HBM.argmax(-1) == label_HB).double().mean(0).sum()
    n = torch.full_like(correct, label_HB.shape[1])
    return loss, {"n": n, "loss": loss.detach().double() * n, "correct": correct}


def figures_so_far(session: Session) -> tuple[float, float, np.ndarray]:
    """Loss and accuracy of the trials of the epoch so far, no spike rates; errors as `totals`."""
    sums = totals(session).sums
    n = sums["n"].item() or np.nan
    return sums["loss"].item() / n, sums["correct"].item() / n, np.zeros(0)


def train_epoch(job: MemoryJob, session: Session, report: Report) -> dict:
    """The steps of one epoch, a look at every head so far, and the curriculum's decision. Returns
    its record: N `n`, mean `loss` and `accuracy` of the training trials, `head_accuracy` on
    balanced bits of each N so far, `valid_accuracy`, the mean over those that learn, and quantiles
    of the time constants; where an N was solved also this N and figures of the network."""
    net: Any = session.net
    n, ns = net.current, job.learning(net)
    gradients = partial(step_gradients, job, session)
    net.train()
    batches = job.batches(job.train, session.epoch, ns, session.step)
    for batch in steps_left(session, batches, report, figures_so_far):
        x, label_HB = batch.x.to(session.device), batch.label_HB.to(session.device)
        take_step(session, job.settings, gradients, x, label_HB)
    loss, accuracy, _ = figures_so_far(session)
    heads = head_accuracy(job, session)
    record: dict[str, Any] = {"n": n, "loss": loss, "accuracy": accuracy}
    record |= {"valid_accuracy": float(np.mean([heads[n] for n in ns]))}
    record |= {"head_accuracy": list(heads.values()), **of_neurons(net)}
    if min(heads[n] for n in ns) > job.settings.curriculum.threshold:
        record |= {"solved": n}
        record |= {k: v for k, v in of_network(job, net).items() if v is not None}
        net.advance_(inherit=job.settings.curriculum.curriculum == "single-head")
    return record


@torch.no_grad()
def head_accuracy(job: MemoryJob, session: Session) -> dict[int, float]:
    """Accuracy of every head so far on the same trials, as long as the current N needs, with
    balanced bits. N -> part of the trials."""
    net: Any = session.net
    ns, device, found = trained(job, net), session.device, []
    with evaluating(net):
        for batch in job.batches(replace(job.test, part="valid"), session.epoch, ns):
            predicted_HB = net(batch.x.to(device), ns).argmax(-1).cpu()
            found.append((predicted_HB == batch.label_HB).double())
    right_HB = torch.cat(found, 1)
    counts = torch.cat([right_HB.sum(1), right_HB.new_tensor([right_HB.shape[1]])])
    session.ranks.sum_([counts])
    return dict(zip(ns, (counts[:-1] / counts[-1]).tolist(), strict=True))


@torch.no_grad()
def evaluate(job: MemoryJob, net: Any, samples: Trials) -> Evaluation:
    """Every head so far on trials drawn for its own N. A trial's label is the number of its N among
    the classes; its prediction is that too if the head was right, else -1."""
    device = next(net.parameters()).device
    labels, predictions, losses, spikes, ones, steps = [], [], [], [], [], 0
    with evaluating(net):
        for i, n in enumerate(trained(job, net)):
            for batch in job.batches(samples, ns=[n]):
                x, label_B = batch.x.to(device), batch.label_HB[0].to(device)
                (logits_BM,), (r_TBN,) = net.activity(x, [n])
                right_B = logits_BM.argmax(-1) == label_B
                labels.append(np.full(len(label_B), i))
                predictions.append(np.where(right_B.cpu().numpy(), i, -1))
                losses.append(F.cross_entropy(logits_BM, label_B).item())
                spikes.append(r_TBN.sum((0, 2)).mean().item())
                ones.append(x.sum(0).mean().item())
                steps = max(steps, len(x))
    return Evaluation(
        labels=np.concatenate(labels),
        predictions=np.concatenate(predictions),
        steps=steps,
        loss=float(np.mean(losses)),
        hidden_spikes=float(np.mean(spikes)) if net.spiking else None,
        input_spikes=float(np.mean(ones)),
        spike_rates=[],
    )


def accuracy_per_n(job: MemoryJob, result: Evaluation) -> dict[int, float]:
    """Part of the trials of each N so far that its head gets right."""
    right, ns = result.labels == result.predictions, job.test.ns
    return {ns[i]: float(right[result.labels == i].mean()) for i in np.unique(result.labels)}


def of_neurons(net: Any) -> dict[str, Any]:
    """Mean and QUANTILES of the neurons' own time constants, in steps."""
    tau_N = net.tau.detach().double().cpu()
    quantiles = tau_N.quantile(torch.tensor(QUANTILES, dtype=tau_N.dtype)).tolist()
    return {"tau_mean": tau_N.mean().item(), "tau_quantiles": quantiles}


def of_network(job: MemoryJob, net: Any) -> dict[str, Any]:
    """Mean and QUANTILES of the time constants of the neurons' activity within the network, in
    steps, under random bits, each trial with a probability of its own, as published; and how many
    neurons are `silent`: they never change, and are left out. The others None if all are."""
    rng = generator("memory_probe", job.settings.training.seed)
    bit_TB1 = rng.random((PROBE_STEPS, PROBE_TRIALS, 1)) < rng.random((PROBE_TRIALS, 1))
    x = torch.from_numpy(bit_TB1).float().to(next(net.parameters()).device)
    with evaluating(net):
        tau_N = effective_timescales(net, x)
    known = tau_N[np.isfinite(tau_N)]
    if not len(known):
        return {"tau_net_mean": None, "tau_net_quantiles": None, "silent": len(tau_N)}
    return {
        "tau_net_mean": float(known.mean()),
        "tau_net_quantiles": np.quantile(known, QUANTILES).tolist(),
        "silent": int(len(tau_N) - len(known)),
    }
