"""What a run tells while it trains: a bar or lines, metrics.jsonl, TensorBoard events."""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..timescales import QUANTILES
from .files import write_atomic
from .settings import SAMPLE

LOOK_S = 0.25  # seconds between two looks at the device
NUMBERS, REAL = ("loss", "accuracy", "seconds"), {int, float}  # in the record of any epoch
MOST_LINES = 60  # of epochs on the screen; metrics.jsonl has them all


class Report:
    """Progress of one run. Use as a context manager, which closes bar and files.

    folder: run folder, where metrics.jsonl and the TensorBoard events go. start: epochs that are
    already done (their lines in metrics.jsonl stay, later ones go, and it is said if some are
    lost), and `step` steps of the next. steps: batches per epoch.
    """

    def __init__(self, folder: Path, epochs: int, start: int, steps: int, step: int = 0):
        self.folder, self.epochs = folder, epochs
        self.metrics = folder / "metrics.jsonl"
        kept = [r for r in read_metrics(self.metrics) if 1 <= r["epoch"] <= start]
        if lost := [*{*range(1, start + 1)} - {r["epoch"] for r in kept}]:
            text = f"{self.metrics} has no whole lines of {len(lost)} of {start} epochs, the first "
            print(f"warning: {text}{min(lost)}: they are missing in the curves", file=sys.stderr)
        write_atomic(self.metrics, "".join(json.dumps(r) + "\n" for r in kept).encode())
        self.board = _tensorboard(folder, start)
        hidden = not sys.stderr.isatty()
        self.next_look = 0.0
        done = start * steps + step
        self.bar = tqdm(total=epochs * steps, initial=done, disable=hidden, unit="step")

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.board.close()

    def step(self, epoch: int, figures: Callable[[], tuple[float, float, np.ndarray]]) -> None:
        """Count a step of an epoch (counted from 0). figures: loss, accuracy and spike rates (in
        spikes/neuron/step, or none) so far; called a few times a second, because a GPU is waited
        for."""
        if time.monotonic() >= self.next_look:
            loss, accuracy, rates = figures()
            if not self.bar.disable:
                self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
                text = f"loss {loss:.3f}, accuracy {accuracy:.1%}"
                if rates.size:
                    text += f", {rates.mean():.3f} spikes/neuron/step"
                self.bar.set_postfix_str(text, refresh=False)
            self.next_look = time.monotonic() + LOOK_S
        self.bar.update()

    def epoch(self, record: dict) -> None:
        """Write the record of a finished epoch to metrics.jsonl and TensorBoard, and print it (of
        long runs some)."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())  # not after the checkpoint, which is durable too
        for tag, number in _scalars(record):
            self.board.add_scalar(tag, number, record["epoch"])
        self.board.flush()
        if record["epoch"] % -(-self.epochs // MOST_LINES) == 0 or record["epoch"] == self.epochs:
            self.bar.write(epoch_line(record, self.epochs), file=sys.stdout)
            sys.stdout.flush()


class Silent:
    """In place of a `Report` where another process tells."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_: object) -> None: ...

    def step(self, epoch: int, figures: Callable) -> None:
        """Nothing."""

    def epoch(self, record: dict) -> None:
        """Nothing."""


def _scalars(record: dict) -> Iterator[tuple[str, float]]:
    """The numbers of a record, each under a name of its own."""
    for name, value in record.items():
        if isinstance(value, dict):  # of time constants
            for key, numbers in value.items():
                for level, number in zip(QUANTILES, numbers, strict=True):
                    yield f"{name}/{key}/quantile_{level:g}", number
        elif isinstance(value, list):
            part = "layer" if name == "spike_rates" else "step"
            yield from ((f"{name}/{part}_{i + 1}", number) for i, number in enumerate(value))
        else:
            yield name, value


def epoch_line(record: dict, epochs: int) -> str:
    """The record of an epoch in one line of text."""
    width = len(str(epochs))
    parts = [
        f"epoch {record['epoch']:{width}d}/{epochs}",
        f"loss {record['loss']:.3f}",
        f"train {record['accuracy']:6.1%}",
        *(
            f"{n} {record[f'{n}_accuracy']:6.1%}"
            for n in ("valid", "test")
            if f"{n}_accuracy" in record
        ),
    ]
    if "n" in record:
        parts.insert(1, f"N {record['n']:3d}")
        parts.append(f"tau {record['tau_mean']:.2f}")
    if rates := record.get("spike_rates"):
        parts.append("spikes/neuron/step " + " ".join(f"{rate:.3f}" for rate in rates))
    if "cka" in record:
        parts.append(f"CKA {np.mean(record['cka']):.2f}  replaced {record['replacement']:4.0%}")
    if skipped := record.get("skipped_steps"):
        parts.append(f"{skipped} steps skipped, not finite")
    if "sigma" in record:
        parts.append(f"sigma {record['sigma']:.2f}")
    return "  ".join([*parts, f"{record['seconds']:.1f} s"])


def read_metrics(path: Path) -> list[dict]:
    """Records of metrics.jsonl in order, one per epoch: of one that stands twice the last. Lines
    that are no record, half ones say, are left out."""
    lines = [line for line in read_lines(path) if {*map(type, map(line.get, NUMBERS))} <= REAL]
    records = {line["epoch"]: line for line in lines if type(line.get("epoch")) is int}
    return [records[epoch] for epoch in sorted(records)]


def read_lines(path: Path) -> list[dict]:
    """The objects in a file of JSON lines; lines that are none are left out."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def closing_lines(summary: dict, folder: Path, plots: list[Path]) -> list[str]:
    """What to print at the end of a run: test accuracy with n and protocol, and the files."""
    lines, sample = [], SAMPLE[summary["kind"]]
    if "largest_n" in summary:
        lines += memory_lines(summary)
    elif summary["test_accuracy"] is None and summary["protocol"] != "validation":
        lines.append("test accuracy: not measured, there are no test clips (give --test-file)")
    else:
        what = "validation" if summary["test_accuracy"] is None else "test"
        lines.append(
            f"{what} accuracy {summary['accuracy']:.1%} (n = {summary['n']}, "
            f"standard error {summary['standard_error']:.1%}; last epoch, delays rounded, "
            f"protocol {summary['protocol']})"
        )
    if "angle_error" in summary:
        lines.append(f"mean angular error {summary['angle_error']:.1f} degrees")
    if "best_on_test_accuracy" in summary:
        lines.append(
            f"best on test {summary['best_on_test_accuracy']:.1%} in epoch "
            f"{summary['best_on_test_epoch']} (chosen with the test {sample}s, not a clean figure)"
        )
    if "split" in summary:
        n = summary["n_static"]
        taught = f"recordings and {n} images" if n else "recordings alone"
        lines.append(f"split {summary['split']}, taught by {taught}")
    lines.append(spike_line(summary))
    lines.append(f"plots: {', '.join(plot.name for plot in plots)} in {folder}")
    return lines


def memory_lines(summary: dict) -> list[str]:
    """How far a curriculum came, and what is left of it on trials that no step has seen."""
    how, largest = summary["curriculum"], summary["largest_n"]
    came = f"solved N = {largest}" if largest else "solved no N"
    tau_net = summary["tau_net_mean"]
    within = "unknown: no neuron is active" if tau_net is None else f"{tau_net:.2f}"
    heads = ", ".join(f"{n}: {a:.0%}" for n, a in summary["accuracy_per_n"].items())
    return [
        f"{how}: {came} in {summary['epochs']} epochs; mean time constant "
        f"{summary['tau_mean']:.2f} steps, in the network {within}",
        f"test accuracy by N (chance 50 %): {heads} (n = {summary['n_per_n']} each)",
    ]


def spike_line(result: dict) -> str:
    """What a prediction costs in spikes. result: with `kind` and `spikes_per_inference`."""
    counts = ", ".join(f"{n:,} {name}" for name, n in result["spikes_per_inference"].items())
    line = f"spikes per {SAMPLE[result['kind']]}: {counts}"
    if result["spikes_per_inference"].get("hidden") != 0:
        return line
    return f"{line}; warning: no hidden neuron spikes, so that every sample gets the same answer"


def _tensorboard(folder: Path, start: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorboard's own imports warn
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=start + 1 if start else None)
