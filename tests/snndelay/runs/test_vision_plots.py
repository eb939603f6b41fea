"""Pictures of event vision: each writes a picture, and shows what it says.

What is drawn is read from matplotlib's own figure, caught before it is saved.
"""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from snndelay.data.events import Events
from snndelay.runs.plots import vision as vision_plots
from snndelay.runs.plots.style import COLOURS

from .test_audio_plots import assert_picture


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved from now on; the picture is written all the same."""
    saved, save = [], vision_plots.save
    monkeypatch.setattr(vision_plots, "save", lambda f, path: (saved.append(f), save(f, path)))
    return saved


def recording(rng, n=500, size=(34, 40)):
    return Events(
        rng.integers(0, 300_000, n), rng.integers(0, size[1], n), rng.integers(0, size[0], n),
        rng.integers(0, 2, n),
    )  # fmt: skip


def records(epochs, steps=10, layers=3, **more):
    return [
        {"epoch": e + 1, "loss": 2.0, "accuracy": 0.5, "test_loss": 2.1, "test_accuracy": e / 50,
         "spike_rates": [0.1] * layers, "lr": 1e-3, "replacement": (e / epochs) ** 3,
         "cka": [0.5] * steps, "coefficient": [0.731] * steps, "loss_static": 1.0,
         "loss_total": 0.8, "loss_domain": 0.4} | more
        for e in range(epochs)
    ]  # fmt: skip


def panel(figure, title):
    (ax,) = [ax for ax in figure.axes if ax.get_title() == title]
    return ax


@pytest.mark.parametrize("steps", [1, 10, 33])
@pytest.mark.parametrize("n", [0, 500, None])
def test_event_sample(tmp_path, rng, figures, steps, n):
    events = None if n is None else recording(rng, n)
    x_TPHW = rng.poisson(0.1, (steps, 2, 34, 40)).astype(np.float32)
    vision_plots.event_sample(x_TPHW, events, "one recording", tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")
    titles = [ax.get_title() for ax in figures[0].axes]
    assert "step 0" in titles and f"step {steps - 1}" in titles and len(titles) <= 11
    assert (f"{n} events" in titles) == (n is not None)


def test_a_frame_has_the_colour_of_its_polarity(tmp_path, figures):
    x_TPHW = np.zeros((1, 2, 3, 4), np.float32)
    x_TPHW[0, 0, 0, 0] = x_TPHW[0, 1, 2, 3] = x_TPHW[0, :, 1, 1] = 5
    vision_plots.event_sample(x_TPHW, None, "", tmp_path / "a.png")
    image = np.asarray(figures[0].axes[0].images[0].get_array())
    for place, colour in (((0, 0), COLOURS[1]), ((2, 3), COLOURS[0]), ((0, 1), "white")):
        assert image[place] == pytest.approx(to_rgb(colour), abs=1e-6), f"pixel {place}"
    assert image[1, 1].max() < 0.2, "both polarities are not dark"


def test_a_long_recording_is_thinned_out(tmp_path, rng, figures):
    frames = np.ones((2, 2, 34, 40), np.float32)
    vision_plots.event_sample(frames, recording(rng, 50_001), "", tmp_path / "a.png")
    (dots,) = [c for ax in figures[0].axes for c in ax.collections]
    assert 15_000 < len(dots.get_offsets()) <= 20_000
    assert "50,001 events" in [ax.get_title() for ax in figures[0].axes]


@pytest.mark.parametrize("steps", [1, 10, 20])
def test_pair(tmp_path, rng, steps):
    frames = rng.poisson(0.1, (steps, 2, 34, 34)).astype(np.float32)
    vision_plots.pair(rng.random((34, 34)), frames, "a pair of class 5", tmp_path / "a.png")
    assert_picture(tmp_path / "a.png", 300)


@pytest.mark.parametrize("epochs", [1, 40])
def test_learning_curves(tmp_path, figures, epochs):
    vision_plots.learning_curves(records(epochs), tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")
    replaced = panel(figures[0], "Sliding training").lines[0].get_ydata()
    assert replaced == pytest.approx([100 * (e / epochs) ** 3 for e in range(epochs)])
    assert len(panel(figures[0], "Alignment of the domains").lines) == 10
    assert len(panel(figures[0], "Activity in training").lines) == 3
    assert [t.get_text() for t in panel(figures[0], "Accuracy").get_legend().get_texts()] == [
        "training", "test",
    ]  # fmt: skip


def test_absent_keys_leave_their_panel_out(tmp_path, figures):
    plain = [{"epoch": 1, "loss": 1.0, "accuracy": 0.1, "cka": None, "lr": 0.1}]
    vision_plots.learning_curves(plain, tmp_path / "a.png")
    titles = [ax.get_title() for ax in figures[0].axes if ax.axison]
    assert titles == ["Loss", "Accuracy", "Learning rate"]


def test_epochs_without_a_key_are_gaps(tmp_path, figures):
    mixed = records(3)
    del mixed[0]["cka"], mixed[0]["replacement"]
    vision_plots.learning_curves(mixed, tmp_path / "a.png")
    for title in ("Sliding training", "Alignment of the domains"):
        y = panel(figures[0], title).lines[0].get_ydata()
        assert np.isnan(y[0]) and np.isfinite(y[1:]).all(), title


def test_compare_runs(tmp_path, figures):
    summary = {"test_accuracy": 0.905, "test_standard_error": 0.01, "n_test": 40}
    runs = {
        "event only": (records(5), summary),
        "transfer": (records(9, valid_accuracy=0.9), summary | {"test_accuracy": 0.95}),
    }
    vision_plots.compare_runs(runs, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")
    bars, curves = figures[0].axes
    assert [t.get_text() for t in bars.texts] == ["90.5 %", "95.0 %"]
    texts = [t.get_text() for t in curves.get_legend().get_texts()]
    assert texts == ["event only (test)", "transfer (validation)"]


@pytest.mark.parametrize(("n_classes", "n"), [(1, 2), (2, 9), (10, 100), (101, 150)])
def test_alignment_view(tmp_path, rng, n_classes, n):
    labels = rng.integers(0, n_classes, n)
    classes = [f"class {i}" for i in range(n_classes)]
    static_BF, event_BF = rng.normal(size=(2, n, 8))
    vision_plots.alignment_view(static_BF, event_BF, labels, classes, "t", tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")


def test_alignment_view_knows_aligned_from_shuffled_classes(tmp_path, rng, figures):
    labels = np.repeat([0, 1, 3], 10)
    static_BF = rng.normal(size=(4, 8))[labels]
    for i, order in enumerate((labels, (labels + 1) % 4)):
        event_BF = 5 + 2 * static_BF if i == 0 else rng.normal(size=(4, 8))[order]
        vision_plots.alignment_view(
            static_BF, event_BF, labels, list("abcd"), "", tmp_path / "a.png"
        )
    same = [ax.images[0].get_array().diagonal().mean() for f in figures for ax in f.axes[1:2]]
    assert same[0] == pytest.approx(1) and same[1] < 0.8, same
    ticks = [t.get_text() for t in figures[0].axes[1].get_yticklabels()]
    assert ticks == ["a", "b", "d"], "the class without a sample is named"


def test_names_cover_no_other_name(tmp_path, rng, figures):
    labels = np.arange(40) % 10
    static_BF = 0.01 * rng.normal(size=(40, 8))  # all means in about one place
    names = [f"class {i}" for i in range(10)]
    vision_plots.alignment_view(static_BF, static_BF, labels, names, "", tmp_path / "a.png")
    figure = figures[0]
    boxes = [Text.get_window_extent(t) for t in figure.axes[0].texts]  # without its leader
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert not a.overlaps(b), "two names lie on each other"
