"""Training: published schedules, exact resume, honest figures."""

import copy
import io
import json
import math

import numpy as np
import pytest
import torch

from snndelay import NETWORKS, DelayNet, evaluate, load
from snndelay.errors import ConfigError, DataError, Interrupted, NonFiniteError, RunError
from snndelay.networks import Network
from snndelay.runs import audio, checkpoint, steps
from snndelay.runs.audio import new_session
from snndelay.runs.files import read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics
from snndelay.runs.schedule import ONE_TAP, sigma_in_epoch
from snndelay.runs.session import new_net
from snndelay.runs.steps import MOST_BAD
from snndelay.runs.training import fit, open_job

from ...conftest import assert_close
from ...helpers_training import TINY, write_tiny


def small_net():
    return DelayNet(4, 3, 8, max_delay_steps=5)


def recipe(**changes):
    return from_flat({"kind": "audio"} | changes)


DRAWN = ("test_run_folder_and_summary", "test_an_audio_run_cut", "test_another_network_trains")


@pytest.fixture(autouse=True)
def _no_plots(request, monkeypatch):
    """Pictures take most of a tiny run's time; some tests draw them."""
    if request.node.originalname not in DRAWN:
        monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])


def run(files, folder, *, resume=None, **settings):
    """Summary of a tiny run."""
    flat = {"dataset": files[0], "test_file": files[1], "runs": str(folder), **TINY, **settings}
    return fit(flat, preset="audio-small", resume=resume)


@pytest.mark.parametrize(("preset", "width"), [("shd", 12.27), ("ssc", 15.27), ("gsc", 15.27)])
def test_width_schedule(preset, width):
    settings = from_flat(preset_settings(preset))
    epochs = settings.training.epochs
    final = epochs // 4
    widths = [sigma_in_epoch(settings, e) + 0.27 for e in range(epochs)]
    assert math.isclose(widths[0], width), f"{preset} starts at {widths[0]}"
    assert math.isclose(widths[final], 0.5), f"{preset} is {widths[final]} in epoch {final}"
    assert widths[final - 1] > 0.5, f"{preset} is narrow before epoch {final}"
    assert widths == sorted(widths, reverse=True)


def test_learning_rate_schedules():
    session = new_session(small_net(), recipe(epochs=150))
    rates = []
    for _ in range(150):
        rates.append([group["lr"] for o in session.optimizers for group in o.param_groups])
        for optimizer, schedule in zip(session.optimizers, session.schedules, strict=True):
            optimizer.step()
            schedule.step()
    weights, others, positions = np.array(rates).T
    assert math.isclose(weights[0], 2e-4), f"one-cycle starts at {weights[0]}"
    assert math.isclose(weights.max(), 5e-3), f"one-cycle peaks at {weights.max()}"
    assert weights.argmax() == 44, "the peak lies at 30 % of the epochs"
    assert (weights == others).all()
    assert math.isclose(positions[0], 0.1)
    assert positions[-1] < 2e-5, f"positions end at {positions[-1]}"


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_short_runs_start_at_the_same_rate(epochs):
    session = new_session(small_net(), recipe(epochs=epochs))
    assert math.isclose(session.optimizers[0].param_groups[0]["lr"], 2e-4)


def test_weight_decay_is_on_synaptic_weights_only():
    net = small_net()
    session = new_session(net, recipe(weight_decay=1e-5))
    decay = {
        id(p): group["weight_decay"]
        for o in session.optimizers
        for group in o.param_groups
        for p in group["params"]
    }
    weights = {id(layer.weight) for layer in net.delay_layers()}
    for name, p in net.named_parameters():
        want = 1e-5 if id(p) in weights else 0
        assert decay[id(p)] == want, f"{name} has weight decay {decay[id(p)]}"


@pytest.mark.parametrize("delays", ["fixed", "frozen", "none"])
def test_controls_do_not_train_positions(delays, files, tmp_path):
    summary = run(files, tmp_path, delays=delays, epochs=1)
    (record,) = read_metrics(tmp_path / "train-audio-small-0" / "metrics.jsonl")
    assert record["position_change_steps"] == 0
    assert "lr_position" not in record
    n_synapses = 10 * 8 + 8 * 8 + 8 * 3
    assert summary["parameters"] == n_synapses + 2 * 2 * 8, "weights and BatchNorm only"


def test_delays_are_whole_steps_in_the_last_part(files, tmp_path):
    settings = dict(epochs=4, round_fraction=0.5, lr_position=0.7)
    summary = run(files, tmp_path, **settings)
    folder = tmp_path / "train-audio-small-0"
    records = read_metrics(folder / "metrics.jsonl")
    rates, moved, widths = (
        [r[name] for r in records] for name in ("lr_position", "position_change_steps", "sigma")
    )
    assert rates[0] == 0.7 and rates[2:] == [0, 0] and rates[1] == pytest.approx(0.35)
    assert moved[0] > 0 and moved[2] == moved[3], "they stay once they are whole"
    assert widths[1] == 0.23 and widths[2:] == [ONE_TAP] * 2
    net = load(folder).net
    for layer in net.delay_layers():
        assert (layer.position == layer.position.round()).all()
    start, end = (
        checkpoint.load(tmp_path / name / "last.pt")["model"]["blocks.0.delay.weight"]
        for name in (run(files, tmp_path, **settings | {"epochs": 2}, run="b")["folder"], folder)
    )
    assert not torch.equal(start, end), "the weights learn on"
    assert summary["rounding_gap"] == 0


def test_movement_is_that_of_the_learned_delays(files, tmp_path):
    run(files, tmp_path, delay_kind="hybrid", epochs=1)
    folder = tmp_path / "train-audio-small-0"
    (record,) = read_metrics(folder / "metrics.jsonl")
    config = read_json(folder / "config.json")
    del config["preset"]
    job = open_job(from_flat(config))
    nets = (new_net(job.settings, job.sizes, torch.device("cpu")), load(folder).net)
    start, end = (
        torch.cat([p.detach() for name, p in net.named_parameters() if "position" in name])
        for net in nets
    )
    assert record["position_change_steps"] == pytest.approx((end - start).abs().mean().item(), 1e-4)
    assert record["position_change_steps"] > 0


def test_delays_may_be_all_that_is_trained(files, tmp_path):
    only = dict(weights="frozen", batchnorm=False, epochs=1)
    assert run(files, tmp_path, **only)["parameters"] == 10 * 8 + 8 * 8 + 8 * 3
    with pytest.raises(ConfigError, match="nothing else is trained: add --delays learned"):
        run(files, tmp_path, delays="fixed", **only)


def test_run_folder_and_summary(files, tmp_path):
    summary = run(files, tmp_path, valid_fraction=0.25)
    folder = tmp_path / "train-audio-small-0"
    names = {path.name for path in folder.iterdir() if "tfevents" not in path.name}
    assert names == {
        ".lock", "config.json", "metrics.jsonl", "summary.json", "last.pt", "previous.pt",
        "best.pt", "learning_curves.png", "delays.png", "confusion.png", "raster.png",
    }  # fmt: skip
    assert list(folder.glob("*tfevents*")), "no TensorBoard events"
    assert json.loads((folder / "summary.json").read_text()) == summary
    records = read_metrics(folder / "metrics.jsonl")
    assert [r["epoch"] for r in records] == [1, 2]
    assert len(records[0]["spike_rates"]) == 2
    assert summary["n_test"] == 6
    p = summary["test_accuracy"]
    assert math.isclose(summary["test_standard_error"], math.sqrt(p * (1 - p) / 6))
    assert summary["valid_accuracy"] == records[-1]["valid_accuracy"]
    assert summary["best_valid_accuracy"] == max(r["valid_accuracy"] for r in records)
    assert summary["n_train"] + summary["n_valid"] == 12
    assert summary["parameters"] == 2 * (10 * 8 + 8 * 8 + 8 * 3) + 2 * 2 * 8
    assert not any("on_test" in key for key in summary), "a clean run has no best-on-test"
    assert checkpoint.load(folder / "best.pt")["epoch"] == summary["best_valid_epoch"]


@pytest.mark.parametrize(("neuron", "backend"), [("lif", "cpu"), ("adlif", "cpu")])
def test_the_summary_names_the_backend_that_ran(neuron, backend, files, tmp_path, capsys):
    summary = run(files, tmp_path, neuron=neuron, epochs=1)
    assert summary["backends"]["lif"] == backend
    assert f"lif {backend}" in capsys.readouterr().out


@pytest.mark.parametrize("network", ["delay", "recurrent"])
def test_a_cpu_says_where_amp_changes_nothing(network, files, tmp_path, capsys):
    run(files, tmp_path, network=network, amp=True, device="cpu")
    assert ("amp changes nothing here" in capsys.readouterr().out) == (network == "delay")


def test_one_class_alone_is_said(files, tmp_path, capsys):
    one = write_tiny(tmp_path / "one.h5", 6, n_classes=1)
    run((one, one), tmp_path, epochs=1)
    assert "all samples are of one class" in capsys.readouterr().out
    run(files, tmp_path, epochs=1)
    assert "all samples are of one class" not in capsys.readouterr().out


def test_delays_by_frequencies_can_be_asked_for(files, tmp_path):
    summary = run(files, tmp_path, backend="fft", epochs=1)
    assert summary["backends"] == {"delay_linear": "fft", "lif": "cpu", "readout": "cpu"}


def test_protocol_validation_never_opens_the_test_clips(files, tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match="held out: give --valid-fraction"):
        run(files, tmp_path, protocol="validation", valid_fraction=0.0)
    with monkeypatch.context() as patch:
        patch.setattr("snndelay.runs.audio_samples.open_clips", None)
        settings = dict(protocol="validation", valid_fraction=0.25)
        summary = run((files[0], "nowhere.h5"), tmp_path, **settings)
    assert summary["measured_on"] == "valid" and summary["test_accuracy"] is None
    assert summary["accuracy"] == summary["valid_accuracy"] and summary["n"] == summary["n_valid"]
    said = capsys.readouterr().out
    assert f"validation accuracy {summary['accuracy']:.1%} (n = {summary['n']}" in said
    other = run(files, tmp_path, run="b", valid_fraction=0.25)
    assert other["valid_accuracy"] == summary["accuracy"], "the same training"
    folder = tmp_path / "train-audio-small-0"
    assert evaluate(folder, test_file=files[1])["accuracy"] == other["test_accuracy"]


def test_published_protocol_is_labelled(files, tmp_path):
    summary = run(files, tmp_path, protocol="best-on-test")
    records = read_metrics(tmp_path / "train-audio-small-0" / "metrics.jsonl")
    assert summary["protocol"] == "best-on-test"
    assert summary["best_on_test_accuracy"] == max(r["test_accuracy"] for r in records)
    assert summary["test_accuracy"] == records[-1]["test_accuracy"], "the last epoch is reported"
    assert not any(key.startswith("best_valid") for key in summary)


def test_clean_run_opens_the_test_clips_once(files, tmp_path, monkeypatch):
    seen = []
    evaluate_clips = audio.AudioJob.evaluate
    monkeypatch.setattr(
        audio.AudioJob, "evaluate", lambda *a: seen.append(len(a[2])) or evaluate_clips(*a)
    )
    run(files, tmp_path, valid_fraction=0.25)
    n_valid = seen[0]
    assert seen[:2] == [n_valid] * 2, "validation after each of two epochs"
    assert seen[2:4] == [6, 6], "then the test clips, with rounded delays and without"


def test_a_run_is_the_mean_of_its_last_epochs(files, tmp_path, monkeypatch):
    states, save = {}, checkpoint.save

    def keep(path, state):
        states[path.name, state["epoch"]] = copy.deepcopy(state)
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", keep)
    summary = run(files, tmp_path, epochs=4, average_fraction=0.5)
    net = load(tmp_path / "train-audio-small-0").net
    two = [states["last.pt", epoch]["model"] for epoch in (3, 4)]
    assert not torch.equal(*(state["delay_out.weight"] for state in two))
    assert states["last.pt", 2]["average"] is None
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            mean = sum(state[name] for state in two) / 2
            assert_close(value, mean, 1e-6, name)
    assert summary["test_accuracy"] == evaluate(tmp_path / "train-audio-small-0")["accuracy"]


@pytest.mark.parametrize("end", [{}, {"round_fraction": 0.67, "average_fraction": 0.67}])
def test_resume_is_bitwise_exact(end, files, tmp_path, monkeypatch):
    settings = dict(valid_fraction=0.25, aug_drop=0.1, epochs=3, **end)
    run(files, tmp_path, run="straight", **settings)
    broken = tmp_path / "broken"
    save, saved = checkpoint.save, []

    def save_then_stop(path, state):
        save(path, state)
        saved.append(path.name)
        if saved.count("last.pt") == 1 and path.name == "last.pt":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_then_stop)
        with pytest.raises(Interrupted, match=r"snndelay train --resume .*broken"):
            run(files, tmp_path, run="broken", **settings)
    torch.rand(7)  # a new process has another random state
    run(files, tmp_path, run="broken", resume=broken, **settings)
    one, other = (checkpoint.load(tmp_path / n / "last.pt") for n in ("straight", "broken"))
    for state in (one, other):
        state.pop("seconds")
        state["config"].pop("run")
    assert_same(one, other, "checkpoint")
    records = read_metrics(broken / "metrics.jsonl")
    assert [r["epoch"] for r in records] == [1, 2, 3]
    with pytest.raises(RunError, match="is complete"):
        run(files, tmp_path, run="broken", resume=broken, **settings)


def assert_same(a, b, where):
    """a and b hold the same values, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f"{where} differs, most by {(a - b).abs().max()}"
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), f"{where}: {a.keys() ^ b.keys()}"
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where} has another length"
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert a == b, f"{where}: {a} and {b}"


def test_non_finite_weights_end_a_run_and_are_not_saved(files, tmp_path, monkeypatch):
    step, calls = torch.optim.Adam.step, []

    def poison(self, *args):
        calls.append(1)
        step(self, *args)
        if len(calls) == 10:  # 2 optimizers, 3 batches: in epoch 2
            self.param_groups[0]["params"][-1].data.fill_(float("nan"))

    monkeypatch.setattr(torch.optim.Adam, "step", poison)
    with pytest.raises(NonFiniteError, match=r"delay_out.position became NaN or .* in epoch 2"):
        run(files, tmp_path, valid_fraction=0.0)
    state = checkpoint.load(tmp_path / "train-audio-small-0" / "last.pt")
    assert state["epoch"] == 1
    assert all(v.isfinite().all() for v in state["model"].values())


class Closed(io.StringIO):
    """Standard output whose reader leaves after the first epoch."""

    def write(self, text):
        if "epoch" in text and "2/" in text:
            raise BrokenPipeError(32, "Broken pipe")
        return len(text)


def test_a_reader_that_leaves_is_no_full_disk(files, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(RunError, match=r"nobody reads what the run prints, go on with: .*--resume"):
        run(files, tmp_path, epochs=3)
    monkeypatch.undo()
    assert run(files, tmp_path, epochs=3, resume=tmp_path / "train-audio-small-0")["epochs"] == 3


def test_a_run_that_cannot_start_leaves_no_folder(files, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="n_out is 7, but the data need 3"):
        run(files, tmp_path / "runs", n_out=7)
    with pytest.raises(ConfigError, match="give --test-file"):
        run((files[0], None), tmp_path / "runs", protocol="best-on-test")
    assert not (tmp_path / "runs").exists()

    def break_down(*_):
        raise DataError("clip 3 is unreadable")

    monkeypatch.setattr(audio, "train_epoch", break_down)
    with pytest.raises(DataError):
        run(files, tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir()), "a run without an epoch leaves a folder"


def test_the_settings_are_of_the_kind_of_the_data(tmp_path):
    with pytest.raises(ConfigError, match="shd is audio, and these settings are for vision"):
        fit({"kind": "vision", "dataset": "shd", "runs": str(tmp_path / "runs")})
    assert not (tmp_path / "runs").exists()


def test_another_network_trains(files, tmp_path, monkeypatch):
    class Mine(torch.nn.Module):
        """The least that a network of a run needs."""

        def __init__(self, n_in, n_out, **_):
            super().__init__()
            self.layer = torch.nn.Linear(n_in, n_out)

        def activity(self, x_TBC):
            return self.forward(x_TBC), [x_TBC]

        def forward(self, x_TBC):
            return self.layer(x_TBC)

    monkeypatch.setitem(NETWORKS, "mine", Network("audio", Mine, "one line of NETWORKS"))
    summary = run(files, tmp_path, network="mine")
    assert summary["n_test"] == 6
    assert {path.suffix for path in (tmp_path / summary["folder"]).glob("*.png")} == {".png"}


def test_no_test_clips(files, tmp_path, capsys):
    summary = run((files[0], None), tmp_path, epochs=1)
    assert summary["test_accuracy"] is None
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize("gradient", ["sltt", "detach_state"])
def test_an_audio_run_cut(files, tmp_path, gradient):
    changes = {"temporal_gradient": gradient, "padding": "causal", "loss": "tet"}
    summary = run(files, tmp_path, valid_fraction=0.25, **changes)
    assert summary["n_test"] == 6
    assert (tmp_path / summary["folder"] / "learning_curves.png").exists()


@pytest.mark.parametrize("looks", [True, False])  # False: as on a GPU, where nobody looks at once
@pytest.mark.parametrize("bad", [MOST_BAD - 1, MOST_BAD])
def test_steps_that_are_not_finite_are_skipped_up_to_ten(looks, bad, files, tmp_path, monkeypatch):
    take_step, made, states = audio.take_step, [], []

    def spoilt(session, settings, gradients, x_TBC, label_B):
        made.append(session.step)
        if 2 <= len(made) < 2 + bad:
            states.append(copy.deepcopy(session.net.state_dict()))
            x_TBC = x_TBC * float("nan")
        with monkeypatch.context() as patch:
            if not looks:
                patch.setattr(steps, "totals", lambda _: None)
            take_step(session, settings, gradients, x_TBC, label_B)

    monkeypatch.setattr(audio, "take_step", spoilt)
    settings = dict(valid_fraction=0.0, epochs=5)
    if bad < MOST_BAD:
        run(files, tmp_path, **settings)
        records = read_metrics(tmp_path / "train-audio-small-0" / "metrics.jsonl")
        assert [r.get("skipped_steps", 0) for r in records] == [2, 3, 3, 1, 0]
        assert all(math.isfinite(r["loss"]) for r in (records[0], *records[3:]))
    else:
        with pytest.raises(NonFiniteError, match="10 steps in a row are not finite") as e:
            run(files, tmp_path, **settings)
        assert "in epoch 4" in str(e.value) and "lower the learning rate" in str(e.value)
        assert "first of all input 0" in str(e.value) or not looks, "a GPU hears of it later"
    for name, value in states[0].items():
        if "sigma" not in name:  # which follows a schedule
            assert all(torch.equal(value, state[name]) for state in states), name


def test_a_session_of_a_gpu_goes_on_on_a_cpu():
    sessions = [new_session(small_net(), recipe()) for _ in range(2)]
    state = sessions[0].state()
    for saved in state["optimizers"]:
        for group in saved["param_groups"]:
            group |= {"capturable": True, "fused": True, "foreach": False}
    sessions[1].restore(state)
    sessions[1].net(torch.rand(9, 2, 4)).sum().backward()
    for optimizer in sessions[1].optimizers:
        optimizer.step()
