"""Finished and interrupted runs: their networks, and how well these do on test samples."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import ConfigError, RunError, nearest
from ..learning import unrounded
from . import checkpoint
from .evaluation import class_table, rounds
from .files import find_run, write_json
from .flat import from_flat, to_flat
from .machine import pick_device
from .other import Other
from .precision import float32_precision
from .session import Job, new_net, put_weights, result_weights
from .settings import Settings
from .weights_file import ENDING, read_weights, write_weights

CHECKPOINTS = ("last", "best")
READING = ("time_unit", "time_zero", "skip_bad", "root")  # settings of how data are found and read
OLDER = "trained by an earlier version, which may have made its frames otherwise: see CHANGELOG.md"


class Saved(NamedTuple):
    """What `load` returns: the network in evaluation mode, the settings of its run, and the
    names of the classes in the order of the network's outputs."""

    net: nn.Module
    settings: Settings
    classes: list[str]


def load(run: str | Path, which: str = "last", device: str = "cpu") -> Saved:
    """The network of a run of any kind; its data are not read.

    Args:
        run: its folder, or its name under runs/; or a file of weights, see `export_weights`.
        which: ``last`` or ``best``, which needs validation samples.
        device: ``auto``, ``cpu`` or ``cuda``: where the network goes.

    Raises:
        RunError: there is no such run or checkpoint, or it holds another network than this version
            builds by its settings.
        CheckpointCorrupt: the checkpoint is damaged.
    """
    place = pick_device(device)
    if Path(run).suffix == ENDING:
        net, settings, classes = read_weights(Path(run).expanduser())
        return Saved(net.to(place).eval(), settings, classes)
    saved = _restored(_state(run, which, place), place)
    saved.net.eval()
    return saved


def export_weights(run: str | Path, out: str | Path, which: str = "last") -> Path:
    """Write the weights of a run, delays as trained, with its settings and classes to a file of
    safetensors, which `load` reads and in which nothing can be run. Returns its path.

    Args:
        run, which: as for `load`.
        out: a name that ends in .safetensors.

    Raises:
        RunError: there is no such run, or the file cannot be written.
        ConfigError: a file of another ending.
        CheckpointCorrupt: the checkpoint is damaged.
    """
    out = Path(out).expanduser()
    saved, state = opened(run, which, torch.device("cpu"))
    write_weights(out, saved.net, saved.settings, state["sizes"], saved.classes)
    return out


def evaluate(
    run: str | Path,
    data: str | Path | None = None,
    *,
    test_file: str | None = None,
    which: str = "last",
    device: str = "auto",
    reverse: bool = False,
    skip_unknown: bool = False,
    sensor: tuple[int, int] | None = None,
    **reading: Any,
) -> dict[str, Any]:
    """Evaluate a run on its test samples, or on others of its classes, and write evaluation.json
    into its folder.

    Args:
        run, which: as for `load`.
        data: what to test on instead: a named data set (its test part), a file of clips or a folder
            of recordings, <class>/<recording>; framed as the run frames, classes matched by name.
            Of the recordings that the run was trained on, those of its own split test it.
        test_file: the same, for a file of clips (audio).
        device: ``auto``, ``cpu`` or ``cuda``.
        reverse: play the test clips backwards, or as they are if the run did so (audio): what a
            network loses by it, it knew from timing.
        skip_unknown: leave out samples of other data whose class the run does not know.
        sensor: (height, width) of the sensor in a folder of recordings; None: that of the run.
        reading: settings of READING for other data, where they are others than the run's.

    Returns:
        Accuracy with n and standard error, accuracy without rounding of the delays, spikes per
        inference, what there is to say about the samples (`notes`), and a row per class.

    Raises:
        RunError, DataError, EventFormatError, ConfigError or CheckpointCorrupt, with one sentence.
    """
    if data is not None and test_file is not None:
        raise ConfigError("data and --test-file both name other samples: give one of them")
    data = test_file if data is None else str(data)
    place = pick_device(device)
    (net, settings, classes), state = opened(run, which, place)
    if (reading or skip_unknown or sensor) and data is None:
        raise ConfigError("how to read samples goes with other samples: name their data too")
    if reverse:
        reading["reverse"] = not to_flat(settings).get("reverse")
    settings = with_reading(settings, reading)
    other = Other(data, skip_unknown, sensor)
    job = _opened_test(settings, state, other, place)
    with float32_precision(settings.machine.precision):
        rounded = exact = job.evaluate(net, job.test)
        if rounds(net):
            exact = job.evaluate(unrounded(net), job.test)
    result = {
        "kind": settings.kind,
        "checkpoint": which,
        "dataset": data or settings.data.dataset,
        "reversed": reverse,
        "accuracy": rounded.accuracy,
        "n": rounded.n,
        "n_unknown": other.n_unknown,
        "standard_error": rounded.standard_error,
        "accuracy_unrounded": exact.accuracy,
        "rounded": rounds(net),
        "rounding_gap": exact.accuracy - rounded.accuracy,
        "spikes_per_inference": rounded.spikes_per_inference(),
        "notes": job.notes() + [OLDER] * is_older(state),
        "classes": class_table(rounded, classes),
    }
    path = find_run(run) / "evaluation.json"
    try:
        write_json(path, result)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror})") from error
    return result


def opened(run: str | Path, which: str, device: torch.device) -> tuple[Saved, dict[str, Any]]:
    """The network of a run on a device, and all that its checkpoint holds. Errors as `load`."""
    state = _state(run, which, device)
    return _restored(state, device), state


def with_reading(settings: Settings, reading: dict[str, Any]) -> Settings:
    """Settings with others of READING. ConfigError if there is none of that name."""
    return from_flat(to_flat(settings) | reading) if reading else settings


def samples_of(kind: str) -> Any:
    """The module that opens samples for a finished run of a kind, `audio` or `vision`."""
    if kind == "vision":
        from . import vision_samples  # its readers are slow to import

        return vision_samples
    from . import audio_samples

    return audio_samples


def _opened_test(
    settings: Settings, state: dict[str, Any], other: Other, device: torch.device
) -> Job:
    """The job whose test samples are wanted."""
    if settings.kind == "memory":
        from . import memory

        return memory.open_test(settings, state["data"], other.data, device)
    return samples_of(settings.kind).open_test(settings, state, other, device)


def is_older(state: dict[str, Any]) -> bool:
    """Whether a checkpoint is from before frames, delays and splits were made as published: every
    setting is in its config, and these had another."""
    config = state["config"]
    return config["kind"] != "memory" and "skip_bad" not in config


def _state(run: str | Path, which: str, device: torch.device) -> dict[str, Any]:
    """What the checkpoint of a run holds."""
    if which not in CHECKPOINTS:
        raise ConfigError(f"unknown checkpoint {which!r}: {nearest(which, CHECKPOINTS)}")
    folder = find_run(run)
    path = folder / f"{which}.pt"
    if not path.is_file():
        reason = "best.pt needs a validation set" if which == "best" else "no epoch was completed"
        raise RunError(f"{folder} has no {path.name}: {reason}")
    return checkpoint.load_run(path, device)


def _restored(state: dict[str, Any], device: torch.device) -> Saved:
    """The network that a checkpoint's settings describe, with its weights."""
    flat = state["config"]
    if is_older(state) and flat.get("delays") == "fixed":
        flat = flat | {"delays": "frozen"}  # its name until then
    settings = from_flat(flat)
    with torch.random.fork_rng(devices=[]):  # weights are drawn, and replaced at once
        net = new_net(settings, state["sizes"], device)
    put_weights(net, result_weights(state))
    return Saved(net, settings, state["classes"])
