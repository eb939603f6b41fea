"""Plots: each writes a picture that shows something."""

import matplotlib.image
import numpy as np
import pytest

from snndelay import DelayNet, RecurrentNet
from snndelay.delays import DELAY_KINDS
from snndelay.runs.audio import delays_of
from snndelay.runs.plots import audio as plots
from snndelay.runs.plots import style


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def assert_picture(path, least_width=500):
    """path is a PNG of some size with both ink and paper."""
    image = matplotlib.image.imread(path)[..., :3]
    assert image.shape[1] >= least_width, f"{path.name} is {image.shape[1]} pixels wide"
    ink = (image.min(-1) < 0.5).mean()
    assert 0.001 < ink < 0.9, f"{ink:.2%} of {path.name} is dark"


@pytest.mark.parametrize("watched", ["valid", "test", None])
@pytest.mark.parametrize("n_epochs", [1, 40])
def test_learning_curves(tmp_path, watched, n_epochs):
    records = [
        {"epoch": e + 1, "loss": 2 / (e + 1), "accuracy": e / 40, "spike_rates": [0.1, 0.2],
         "sigma": 1.0, "lr": 1e-3, "lr_position": 0.1, "position_change_steps": 0.5}
        | ({f"{watched}_loss": 1.0, f"{watched}_accuracy": 0.3} if watched else {})
        for e in range(n_epochs)
    ]  # fmt: skip
    plots.learning_curves(records, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")


@pytest.mark.parametrize("n_taps", [1, 25])
def test_delay_histograms(tmp_path, rng, n_taps):
    places = ("into hidden layer 1", "into hidden layer 2", "into readout")
    start, end = (
        {place: rng.uniform(0, n_taps - 1, (1, 8, 4)) for place in places} for _ in range(2)
    )
    plots.delay_histograms(start, end, 10.0, n_taps, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")


@pytest.mark.parametrize("kind", DELAY_KINDS)
def test_delays_stand_where_they_are_and_span_the_window(kind):
    found = delays_of(DelayNet(40, 30, 40, 2, max_delay_steps=9, delay_kind=kind))
    assert [*found] == ["into hidden layer 1", "into hidden layer 2", "into readout"]
    counts = {"synaptic": 1600, "axonal": 40, "dendritic": 40, "common": 1, "hybrid": 1600}
    assert found["into hidden layer 1"].size == counts[kind]
    steps = np.concatenate([part.ravel() for part in found.values()])
    assert steps.min() >= 0 and steps.max() <= 8
    assert kind == "common" or steps.max() > 6, steps.max()


def test_recurrent_delays_stand_within_their_layers():
    found = delays_of(RecurrentNet(5, 3, (8, 6), max_delay_steps=9, delay_kind="synaptic"))
    assert {place: part.shape for place, part in found.items()} == {
        "within hidden layer 1": (8, 8), "within hidden layer 2": (6, 6)
    }  # fmt: skip


@pytest.mark.parametrize("n_classes", [2, 35])
def test_confusion(tmp_path, rng, n_classes):
    labels, predictions = rng.integers(0, n_classes, (2, 100))
    names = [f"class {i}" for i in range(n_classes)]
    style.confusion(labels, predictions, names, "test clips", tmp_path / "a.png")
    assert_picture(tmp_path / "a.png", 400)


@pytest.mark.parametrize(("label", "prediction"), [(0, 0), (1, 6)])
def test_raster(tmp_path, rng, label, prediction):
    plots.raster(
        rng.poisson(0.1, (50, 20)),
        [(rng.random((60, 8)) < 0.1).astype(np.float32), np.zeros((70, 8), np.float32)],
        rng.normal(size=(80, 7)),
        classes=list("abcdefg"),
        label=label,
        prediction=prediction,
        dt_ms=10.0,
        path=tmp_path / "a.png",
    )
    assert_picture(tmp_path / "a.png")
