"""Evaluation: the same whatever the batches, and the same loss as in training."""

import pytest
import torch
from torch import nn

from snndelay import build_model
from snndelay.data.audio.loader import Batch
from snndelay.learning import set_sigma
from snndelay.runs import audio, vision
from snndelay.runs.evaluation import evaluate
from snndelay.runs.presets import preset_settings
from snndelay.runs.session import new_net
from snndelay.runs.settings import from_flat
from snndelay.runs.training import open_job

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
    one, other = evaluate(net, alone), evaluate(net, together)
    assert one.predictions.tolist() == other.predictions.tolist()
    assert one.hidden_spikes == other.hidden_spikes
    assert one.steps == other.steps == 40


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
        return audio.train_step(job, session, batch, 0)[0]

    trained, evaluated = first_losses(job, loss)
    assert trained == pytest.approx(evaluated, rel=1e-5)


@pytest.mark.parametrize("transfer", ["off", "align"])
@pytest.mark.parametrize("gradient", ["bptt", "sltt"])
def test_loss_and_valid_loss_of_vision_are_one_quantity(tmp_path, transfer, gradient):
    recordings, images = write_tiny_vision(tmp_path, 6)
    changes = {"dataset": recordings, "static": images, "transfer": transfer, "batch_size": 64}
    changes |= {"temporal_gradient": gradient, "step_lambda": 0.3, "step_target": 1.0}
    changes |= {"n_steps": 4, "aug_crop": 0, "amp": False, "cache": False, "warmup_epochs": 0}
    job = open_job(from_flat(preset_settings("events") | changes))
    values = {}

    def loss(job, session, batch):
        values.update(vision.train_step(job, session, batch, 0)[0])
        return float(values["loss"])

    trained, evaluated = first_losses(job, loss)
    assert trained == pytest.approx(evaluated, rel=1e-5)
    if transfer == "align":
        assert float(values["loss_total"]) != pytest.approx(trained, rel=1e-2)
        assert {"loss_static", "loss_domain", "cka"} < values.keys()
    else:
        assert set(values) == {"loss"}, "what is minimised is the loss"
