"""Evaluation: the same whatever the batches, and the same loss as in training."""

import numpy as np
import pytest
import torch
from torch import nn

from snndelay import GraphedStep, build_model
from snndelay.data.audio.loader import Batch
from snndelay.errors import ConfigError
from snndelay.learning import set_sigma
from snndelay.runs import audio, vision
from snndelay.runs.evaluation import Evaluation, Evaluator, angle_error
from snndelay.runs.flat import from_flat
from snndelay.runs.presets import preset_settings
from snndelay.runs.session import new_net, uses_graphs
from snndelay.runs.steps import totals
from snndelay.runs.training import open_job

from ...helpers_capture import Watch, absent_device, counts, labels, moved
from ...helpers_training import TINY
from ...helpers_vision import write_tiny_vision


def test_the_result_does_not_depend_on_the_batches():
    torch.manual_seed(0)
    net = build_model("shd", n_in=10, n_hidden=16, n_out=3)
    set_sigma(net, 0.23)
    clips = [torch.poisson(torch.full((T, 1, 10), 1.0)) for T in (5, 40, 12, 30, 3, 22)]
    labels = torch.zeros(1, dtype=torch.int64)
    alone = [Batch(x, labels, labels) for x in clips]
    padded = torch.cat([torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 40 - len(x))) for x in clips], 1)
    together = [Batch(padded, labels.expand(6), labels.expand(6))]
    evaluator = Evaluator(net)
    one, other = evaluator(alone), evaluator(together)
    assert one.predictions.tolist() == other.predictions.tolist()
    assert one.hidden_spikes == other.hidden_spikes
    assert one.steps == other.steps == 40


def test_angles_are_off_by_the_shorter_way_round():
    found = np.array([0, 3, 1]), np.array([0, 0, 2])
    result = Evaluation(*found, steps=1, loss=0.0, hidden_spikes=0, input_spikes=0, spike_rates=[])
    assert angle_error(result, ["0", "90.5", "-90", "350"]) == (0 + 10 + 179.5) / 3


def agree_in_training(net: nn.Module) -> nn.Module:
    """The network with norms that do in training what they do in evaluation."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.eval()
            layer.train = lambda mode=True, layer=layer: layer
    return net


def first_losses(job, epoch_of):
    """`loss` of training on one batch, and of evaluating that batch before it."""
    net = agree_in_training(new_net(job.settings, job.sizes, torch.device("cpu")))
    evaluated = job.evaluate(net, job.train)
    session = job.new_session(net)
    net.train()
    (batch,) = job.batches(job.train, 0)
    return epoch_of(job, session, batch), evaluated.loss


LOSSES = [
    {"loss": "softmax_sum", "label_smoothing": 0.2},
    {"loss": "logit_sum"},
    {"loss": "tet", "label_smoothing": 0.1},
    {"loss": "tet", "temporal_gradient": "sltt", "padding": "causal", "label_smoothing": 0.1},
]


@pytest.mark.parametrize("changes", LOSSES)
def test_loss_and_valid_loss_of_audio_are_one_quantity(files, changes):
    flat = {"dataset": files[0], **TINY, "batch_size": 64, "dropout": 0.0, "delays": "none"}
    job = open_job(from_flat(flat | {"valid_fraction": 0.0} | changes))

    def loss(job, session, batch):
        audio.train_step(job, session, batch)
        return totals(session).sums["loss"].item() / len(batch.label_B)

    trained, evaluated = first_losses(job, loss)
    assert trained == pytest.approx(evaluated, rel=1e-5)


@pytest.mark.parametrize("transfer", ["off", "align"])
@pytest.mark.parametrize("gradient", ["bptt", "sltt"])
def test_loss_and_valid_loss_of_vision_are_one_quantity(tmp_path, transfer, gradient):
    recordings, images = write_tiny_vision(tmp_path, 6)
    changes = {"dataset": recordings, "static": images, "transfer": transfer, "batch_size": 64}
    changes |= {"temporal_gradient": gradient, "step_lambda": 0.3, "step_target": 1.0}
    changes |= {"n_steps": 4, "aug_crop": 0, "amp": False, "cache": False, "warmup_epochs": 0}
    job = open_job(from_flat(preset_settings("vision-small") | changes))
    values = {}

    def loss(job, session, batch):
        vision.train_step(job, session, batch)
        sums = totals(session).sums
        del sums["correct"]
        values.update({name: total / len(batch.label_B) for name, total in sums.items()})
        return float(values["loss"])

    trained, evaluated = first_losses(job, loss)
    assert trained == pytest.approx(evaluated, rel=1e-5)
    if transfer == "align":
        assert float(values["loss_total"]) != pytest.approx(trained, rel=1e-2)
        assert {"loss_static", "loss_domain", "cka"} < values.keys()
    else:
        assert set(values) == {"loss", "n"}, "what is minimised is the loss"


@pytest.mark.parametrize("kind", ["audio", "align", "off"])
def test_a_step_of_a_run_waits_for_nothing(files, tmp_path, monkeypatch, kind):
    """On a device that does not exist: what passes records as a CUDA graph."""
    if kind == "audio":
        module, flat = audio, {"dataset": files[0], **TINY, "grad_clip": 1.0}
    else:
        recordings, images = write_tiny_vision(tmp_path, 6)
        module, flat = vision, preset_settings("vision-small") | {"dataset": recordings}
        flat |= {"static": images, "transfer": kind, "n_steps": 4, "cache": False}
    job = open_job(from_flat(flat | {"backend": "triton", "amp": False, "valid_fraction": 0.0}))
    net = new_net(job.settings, job.sizes, torch.device("cpu"))
    monkeypatch.setattr(GraphedStep, "_is_first", lambda _: False)  # the first step reads once
    with absent_device():
        session = job.new_session(moved(net))
        x = counts(4, 3, *job.shape)
        static = {"audio": (), "align": (torch.empty_like(x),), "off": (None,)}[kind]
        drawn = () if kind == "audio" else (labels(3),)
        batch = module.Batch(x, *static, labels(3), labels(3), *drawn)
        module.train_step(job, session, batch)
        session.step = 1
        with Watch():
            module.train_step(job, session, batch)


def test_graphs_are_refused_where_they_cannot_be(files):
    settings = from_flat({"dataset": files[0], **TINY, "graph": "on"})
    with pytest.raises(ConfigError, match=r"graph is on, but graphs need CUDA.* --graph auto"):
        uses_graphs(settings, torch.device("cpu"))
    cuda = torch.device("cuda")
    assert uses_graphs(settings, cuda)
    for changes in ({"graph": "off"}, {"graph": "auto", "recompute": True}):
        settings = from_flat({"dataset": files[0], **TINY, **changes})
        assert not uses_graphs(settings, cuda), changes
    with pytest.raises(ConfigError, match="recompute looks at the spikes"):
        uses_graphs(from_flat({"dataset": files[0], "graph": "on", "recompute": True}), cuda)
