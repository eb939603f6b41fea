"""The parts of benchmarks/gpu.py that train on clips: the first epochs of the speedrun, and what
share of an epoch waits for data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import shd_size
import speedrun
import torch
from common_gpu import medians, set_precision

from snndelay.data.audio.loader import Batch
from snndelay.runs.audio import AudioJob, open_job, train_epoch
from snndelay.runs.flat import from_flat
from snndelay.runs.session import new_net


def _recipe(device: torch.device, epochs: int) -> dict:
    """Flat settings of the published recipe on clips as many as SHD's, or few on a CPU."""
    small = {"n_hidden": 17, "batch_size": 8, "max_delay_steps": 5}
    n_clips, changed = (shd_size.N_CLIPS, {}) if device.type == "cuda" else ((24, 12), small)
    changed = {"epochs": epochs, "device": device.type} | changed
    return speedrun.settings_of(None, n_clips, shd_size.FOLDER, **changed)


def race(device: torch.device) -> Iterator[dict]:
    """The first epochs of the speedrun."""
    epochs = {"cuda": 5, "cpu": 1}[device.type]
    yield speedrun.run(from_flat(_recipe(device, epochs)), "default")


@dataclass(frozen=True)
class AtHand(AudioJob):
    """A job whose batches lie on the device already."""

    ready: tuple = ()

    def batches(self, samples, epoch=None, **changes):
        """The batches that are ready, whatever is asked for."""
        return self.ready


def wait(device: torch.device) -> Iterator[dict]:
    """The part of a training epoch that is gone waiting for data."""
    set_precision("default")
    cases = {"cuda": (("device", 0), ("host", 0), ("host", 8)), "cpu": (("host", 0),)}
    for data_on, workers in cases[device.type]:
        changed = {"data_on": data_on, "workers": workers}
        job = open_job(from_flat(_recipe(device, 150) | changed))
        session = job.new_session(new_net(job.settings, job.sizes, device))
        ready = tuple(
            Batch(*(part if part is None else part.to(device) for part in batch))
            for batch in job.batches(job.train, 0)
        )
        at_hand = AtHand(job.settings, job.sizes, job.train, None, None, ready=ready)
        runs = {
            name: partial(train_epoch, j, session, speedrun.SILENT)
            for name, j in (("epoch", job), ("at hand", at_hand))
        }
        for _ in range(2):  # graphs of both are recorded
            for epoch in runs.values():
                epoch()
        seconds = medians(runs, device, 3, 1)
        waiting = max(0.0, 1 - seconds["at hand"] / seconds["epoch"])
        line = {"data_on": data_on, "workers": workers, "clips": len(job.train), "rounds": 3}
        line |= {"epoch_seconds": seconds["epoch"], "at_hand_seconds": seconds["at hand"]}
        yield line | {"waiting": waiting}
