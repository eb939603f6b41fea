"""`snndelay predict`: predictions on the screen or in a file, a line as soon as it is known."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..data.coverage import Coverage, coverage_lines
from ..data.names import printable
from ..errors import ConfigError, RunError, SamplesUnusable
from .files import written
from .other import Other
from .predictions import Prediction, Predictions, open_predictions

ENDINGS = (".csv", ".jsonl")


def predict_command(run: str, other: Other, out: str | None, top: int = 1, **how: Any) -> None:
    """Predicts and prints, or writes to `out`, a .csv or .jsonl file. how: as `open_predictions`
    takes it. SamplesUnusable, at the end, if there were such."""
    if out is not None and Path(out).suffix.lower() not in ENDINGS:
        raise ConfigError(f"--out {out}: give a name that ends in {' or '.join(ENDINGS)}")
    found = open_predictions(run, other, top=top, **how)
    for note in found.notes:
        print(printable(note), file=sys.stderr)
    tally = Tally()
    with _lines(out, found, min(top, found.n_classes)) as write:
        for prediction in found.each:
            tally.add(prediction)
            if prediction.error is not None:
                text = printable(" ".join(prediction.error.split()))
                print(f"skipped: {text}", file=sys.stderr)
            else:
                write(prediction)
    print("\n".join(tally.lines(out, found.batch_size)), flush=True)
    if tally.n_bad:
        raise SamplesUnusable(f"{tally.n_bad} of {tally.n} samples cannot be used, see above")


class Tally:
    """What there is to say about predictions when they are over, in little memory."""

    def __init__(self) -> None:
        self.n = self.n_bad = self.n_labelled = self.n_correct = 0
        self.in_frames = self.ms = 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one."""
        self.n += 1
        if prediction.error is not None:
            self.n_bad += 1
            return
        self.in_frames += prediction.in_frames
        self.ms += prediction.latency_ms
        if prediction.label is not None:
            self.n_labelled += 1
            self.n_correct += prediction.label == prediction.classes[0]

    def lines(self, out: str | None, size: int) -> list[str]:
        """The end of the output. size: of a batch."""
        good = self.n - self.n_bad
        said = ["" if out is None else f"{out}: {good} predictions"]
        if self.n_labelled:
            accuracy = self.n_correct / self.n_labelled
            error = math.sqrt(accuracy * (1 - accuracy) / self.n_labelled)
            of = "" if self.n_labelled == good else f" of {good}, those of known class"
            said.append(
                f"accuracy {accuracy:.1%} (n = {self.n_labelled}{of}, standard error {error:.1%})"
            )
        if good:
            said.append(
                f"latency {self.ms / good:.3g} ms per sample, in batches of up to {size}: reading, "
                "frames and network, without the start of the program and its kernels"
            )
            share = Coverage("samples", round(1e6 * self.in_frames), 1_000_000 * good)
            said += coverage_lines([share])[1:]
        return said


@contextmanager
def _lines(out: str | None, found: Predictions, top: int) -> Iterator[Callable]:
    """What writes one prediction, to the screen or to a file that appears when all are there."""
    if out is None:
        print(f"{'name':40s}  " + "class and " + found.scored + "  latency/ms", flush=True)
        yield _show
        return
    path = Path(out).expanduser()
    try:
        with written(path) as file:
            yield (
                _table(file, found.scored, top)
                if path.suffix.lower() == ".csv"
                else (lambda prediction: file.write(_json(prediction, found.scored)))
            )
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror})") from error


def _show(prediction: Prediction) -> None:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    text = "  ".join(f"{printable(name)} {value:.3f}" for name, value in pairs)
    print(f"{printable(prediction.name):40s}  {text}  {prediction.latency_ms:.2f}", flush=True)


def _table(file: IO[str], scored: str, top: int) -> Callable[[Prediction], object]:
    """What writes a prediction as a line of CSV, after the names of its columns."""
    rows = csv.writer(file, lineterminator="\n")
    ranks = ["", *(f"_{k}" for k in range(2, top + 1))]
    pairs = [f"{column}{rank}" for rank in ranks for column in ("class", scored)]
    rows.writerow(["name", "label", *pairs, "latency_ms", "in_frames"])

    def write(prediction: Prediction) -> None:
        pairs = zip(prediction.classes, prediction.probabilities, strict=True)
        values = [value for pair in pairs for value in pair]
        row = [prediction.name, prediction.label, *values, prediction.latency_ms]
        row = [printable(value) if isinstance(value, str) else value for value in row]
        rows.writerow([*row, prediction.in_frames])

    return write


def _json(prediction: Prediction, scored: str) -> str:
    """A prediction as a line of JSON."""
    line = prediction._asdict()
    line["name"] = printable(prediction.name)
    del line["error"]
    if scored != "probability":
        line["scores"] = line.pop("probabilities")
    return json.dumps(line) + "\n"
