"""Tiny runs of every kind that are stopped and gone on with, and what they ended with."""

import signal

import pytest
import torch

from snndelay.errors import Interrupted
from snndelay.runs import checkpoint
from snndelay.runs.keeping import Keeper
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics
from snndelay.runs.training import fit

from .helpers_training import TINY

KINDS = ("audio", "average", "align", "balanced", "sltt", "memory")
CHANGED_BY_TIME = ("seconds", "part_seconds")


def settings_of(kind, files, recordings, images):
    """Flat settings of a tiny run of several epochs of several steps."""
    audio = {"dataset": files[0], "test_file": files[1], **TINY, "valid_fraction": 0.25}
    vision = preset_settings("vision-small") | dict(
        dataset=recordings, static=images, n_steps=4, epochs=3, batch_size=4, cache=False,
        test_fraction=0.34, valid_fraction=0.2, warmup_epochs=0, amp=False,
    )  # fmt: skip
    memory = dict(kind="memory", dataset="n-parity", n_hidden=8, batch_size=4, steps_per_epoch=3)
    return {
        "audio": audio | {"epochs": 3, "batch_size": 3, "aug_drop": 0.1},
        "average": audio
        | {"epochs": 3, "batch_size": 3, "average_fraction": 0.67, "round_fraction": 0.34},
        "align": vision | {"transfer": "align", "aug_crop": 1},
        "balanced": vision | {"transfer": "off", "sampling": "class-balanced", "aug_one": True},
        "sltt": vision | {"transfer": "off", "temporal_gradient": "sltt", "backward_steps": 2},
        "memory": memory | {"n_test": 8, "n_max": 4, "epochs": 3},
    }[kind]


def final(folder):
    """What a run ended with, bit for bit, without its times."""
    state = checkpoint.load(folder / "last.pt")
    state["config"] = {k: v for k, v in state["config"].items() if k != "run"}
    state = {k: v for k, v in state.items() if k not in CHANGED_BY_TIME}
    records = [
        {k: v for k, v in r.items() if k != "seconds"}
        for r in read_metrics(folder / "metrics.jsonl")
    ]
    return state, records


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def stopped_at(step, monkeypatch, **flat):
    """A run that hears of SIGTERM while it makes its step of this number."""
    made = []

    def after_step(keeper, session):
        made.append(session.step)
        if len(made) == step:
            keeper.signals.caught = signal.SIGTERM
        after(keeper, session)

    after = Keeper.after_step
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "after_step", after_step)
        with pytest.raises(Interrupted, match="stopped and saved, go on with") as caught:
            fit(flat)
    assert caught.value.exit_code == 143
