"""Runs on recordings, from the command line to the run folder."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from snndelay.data.events import Events
from snndelay.data.vision import scanned_digits
from snndelay.errors import ConfigError
from snndelay.runs import checkpoint, keeping, vision
from snndelay.runs.cli import main as snndelay_main
from snndelay.runs.files import absolute_paths, read_json
from snndelay.runs.flat import from_flat
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics
from snndelay.runs.saved import evaluate
from snndelay.runs.schedule import phase, rate_factor
from snndelay.runs.session import new_net
from snndelay.runs.training import fit, one_epoch, open_job

from ...helpers_formats import aedat4
from ...helpers_training import call, load_train_py
from ...helpers_vision import TINY_VISION, write_tiny_vision

train_main = load_train_py().main


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_tiny_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("learning_curves", "event_sample", "pair", "alignment_view", "compare_runs"):
        monkeypatch.setattr(f"snndelay.runs.plots.vision.{name}", lambda *_: None)
    monkeypatch.setattr("snndelay.runs.plots.style.confusion", lambda *_: None)


def train(folders, *argv):
    """Exit code, stdout, stderr of `python train.py RECORDINGS --static IMAGES ...`."""
    recordings, images = folders
    options = (*TINY_VISION, "--root", "cache", *argv)
    if not {"--static", "--transfer off"} & {*argv, " ".join(argv[:2]), " ".join(argv[2:4])}:
        options = ("--static", images, *options)
    return call(train_main, recordings, *options)


def job(folders, **changes):
    recordings, images = folders
    flat = preset_settings("vision-small") | {
        "dataset": recordings, "static": images, "cache": False, "epochs": 4, "batch_size": 4,
        "n_steps": 4, "test_fraction": 0.34, "aug_crop": 1, "warmup_epochs": 0,
    }  # fmt: skip
    return open_job(from_flat(flat | changes))


class NoReport:
    def step(self, *_):
        pass


NO_REPORT = NoReport()


def weights(folder: str) -> dict:
    return torch.load(Path(folder) / "last.pt", weights_only=True)["model"]


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


MODES = {
    "transfer": [],
    "event-only": ["--transfer", "off"],
    "finetune": ["--transfer", "finetune"],
    "no sliding": ["--sliding", "off"],
    "fixed": ["--coefficient", "0.5"],
    "off": ["--coefficient", "off", "--static-channel", "last"],
    "saccades": ["--static-as", "saccade"],
    "sltt": ["--temporal-gradient", "sltt"],
    "sltt recomputed": ["--temporal-gradient", "sltt", "--recompute"],
    "sltt-2": ["--temporal-gradient", "sltt", "--backward-steps", "2", "--amp"],
    "detach_state": ["--temporal-gradient", "detach_state", "--transfer", "off"],
    "recompute": ["--recompute", "--dropout", "0.1"],
    "delays": ["--delays", "learned", "--max-delay-steps", "3"],
    "count": [
        "--framing",
        "event_count",
        "--frame-size",
        "12",
        "--aug-flip",
        "0.5",
        "--aug-rotate",
        "9",
    ],
    "window": ["--framing", "time_window", "--dt-ms", "25", "--optimizer", "sgd"],
    "overlap": ["--framing", "time_window", "--dt-ms", "25", "--stride-ms", "10", "--shrink", "2"],
    "surface": ["--framing", "time_surface", "--dt-ms", "25", "--surface", "sum", "--thin-ms", "1"],
    "voxel": ["--framing", "voxel_grid", "--voxel", "signed", "--hot-pixels", "5"],
    "published": ["--split", "file-order", "--protocol", "best-on-test"],
}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_of_every_kind(folders, mode):
    code, out, err = train(folders, *MODES[mode], "--run", "a")
    assert (code, err) == (0, ""), err
    summary = read_json(Path("runs/a/summary.json"))
    assert summary["n_test"] > 0
    assert f"n = {summary['n_test']}" in out
    records = [*read_metrics(Path("runs/a/metrics.jsonl"))]
    assert [record["epoch"] for record in records] == [1, 2]
    assert all(math.isfinite(record["loss"]) for record in records)
    aligned = "--transfer" not in MODES[mode]
    assert ("taught by recordings alone" in out) == (mode in ("event-only", "detach_state"))
    assert ("cka" in records[0]) == aligned, "CKA is a part of transfer align only"
    if aligned:
        assert len(records[0]["cka"]) == 4 and all(0 <= c <= 1 for c in records[0]["cka"])


def test_protocol_validation_keeps_the_test_recordings(folders):
    how = ("--protocol", "validation", "--compare", "false")
    assert "give --valid-fraction" in train(folders, *how)[2]
    code, out, err = train(folders, *how, "--valid-fraction", "0.3", "--run", "v")
    assert code == 0 and "validation accuracy" in out, err
    summary = read_json(Path("runs/v/summary.json"))
    assert summary["test_accuracy"] is None and summary["n"] == summary["n_valid"] > 0
    code, out, err = train(folders, "--valid-fraction", "0.3", "--run", "c")
    clean = read_json(Path("runs/c/summary.json"))
    assert clean["valid_accuracy"] == summary["accuracy"], "the same training"
    assert evaluate("runs/v")["accuracy"] == clean["test_accuracy"], "tested when asked to"


def test_compare_trains_on_events_alone_too(folders):
    code, out, err = train(folders, "--compare", "--run", "a")
    assert (code, err) == (0, ""), err
    alone = read_json(Path("runs/a-events-alone/config.json"))
    assert (alone["transfer"], alone["compare"]) == ("off", False)
    assert "events alone" in out.splitlines()[-1]


def test_a_comparison_that_is_stopped_is_completed_as_a_pair(folders, monkeypatch):
    after, made = keeping.Keeper.after_step, []

    def after_step(keeper, session):
        made.append(keeper.folder.name)
        if made.count("a-events-alone") == 2:
            keeper.signals.caught = signal.SIGTERM
        after(keeper, session)

    with monkeypatch.context() as patch:
        patch.setattr(keeping.Keeper, "after_step", after_step)
        code, _, err = train(folders, "--compare", "--run", "a")
    assert code == 143 and "--resume runs/a\n" in err, err
    code, out, err = call(train_main, "--resume", "runs/a")
    assert (code, err) == (0, "") and "events alone" in out
    train(folders, "--compare", "--run", "b")
    one, other = (read_json(Path("runs") / n / "summary.json")["events_alone"] for n in "ab")
    assert one.pop("folder") == "a-events-alone" and other.pop("folder") == "b-events-alone"
    assert one == other
    code, _, err = call(train_main, "--resume", "runs/a")
    assert code == 2 and "is complete" in err


def test_a_resumed_run_ends_with_the_same_bits(folders, monkeypatch):
    for mode in ([], ["--temporal-gradient", "sltt", "--backward-steps", "2", "--dropout", "0.2"]):
        name = f"run{len(mode)}"
        train(folders, *mode, "--epochs", "3", "--run", f"{name}-whole")
        epochs, calls = vision.train_epoch, []

        def stop(*argv, epochs=epochs, calls=calls):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return epochs(*argv)

        monkeypatch.setattr(vision, "train_epoch", stop)
        assert train(folders, *mode, "--epochs", "3", "--run", name)[0] == 130
        monkeypatch.setattr(vision, "train_epoch", epochs)
        code, _, err = call(train_main, "--resume", f"runs/{name}")
        assert (code, err) == (0, ""), err
        assert same(weights(f"runs/{name}"), weights(f"runs/{name}-whole")), "weights differ"


def test_a_run_is_evaluated_from_any_folder(folders, tmp_path, monkeypatch):
    """Paths in config.json are absolute, that of the root too."""
    recordings = os.path.relpath(folders[0])
    assert train((recordings, folders[1]), "--run", "a")[0] == 0
    written = json.loads(Path("runs/a/config.json").read_text())
    assert written["root"] == os.path.abspath("cache") and Path(written["dataset"]).is_absolute()
    run = os.path.abspath("runs/a")
    (tmp_path / "else").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "else")
    code, _, err = call(snndelay_main, "evaluate", run)
    assert code == 0, err
    assert not Path("cache").exists(), "a second cache of frames"


@pytest.mark.parametrize("bad", ["recordings/bar/image_0008.bin", "images/dot/image_0000.png"])
def test_a_bad_file_is_found_before_the_first_epoch_or_skipped(tmp_path, bad):
    """Wherever it is: the last recordings of a class are those that test."""
    folders = write_tiny_vision(tmp_path / "spoilt")
    (tmp_path / "spoilt" / bad).write_bytes(b"bad")
    code, out, err = train(folders, "--split", "file-order", "--run", "a")
    assert code == 2 and Path(bad).name in err and "epoch 1" not in out, err
    assert not Path("runs/a").exists()
    code, out, _ = train(folders, "--split", "file-order", "--run", "a", "--skip-bad")
    assert code == 0 and f"left out 1 of 27 {Path(bad).parts[0]} that cannot be used" in out
    evaluated, out, err = call(snndelay_main, "evaluate", "runs/a")
    assert evaluated == 0, err


def test_paths_of_settings_are_made_absolute_but_names_and_home_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    flat = {"dataset": Path("mine"), "static": "digits", "root": "~/sets", "epochs": 3}
    assert absolute_paths(flat) == flat | {"dataset": str(tmp_path / "mine")}
    flat = {"dataset": "dvs", "static": "gone", "test_file": None, "root": Path("new")}
    assert absolute_paths(flat) == flat | {"root": str(tmp_path / "new")}
    with pytest.raises(ConfigError, match="root is 7: give a value of type str"):
        fit({"dataset": "dvs", "root": 7})


def test_evaluate_finds_the_accuracy_of_the_summary(folders):
    train(folders, "--delays", "learned", "--max-delay-steps", "3", "--run", "a")
    code, _, err = call(snndelay_main, "evaluate", "runs/a")
    assert (code, err) == (0, ""), err
    summary, again = (read_json(Path(f"runs/a/{n}.json")) for n in ("summary", "evaluation"))
    assert (again["accuracy"], again["n"]) == (summary["test_accuracy"], summary["n_test"])
    code, _, err = call(snndelay_main, "evaluate", "runs/a", "--test-file", "x.h5")
    assert (code, len(err.splitlines())) == (2, 1), err


def test_weights_of_another_network_are_refused_in_a_sentence(folders):
    """As those of a network that was another one under its name in an earlier version."""
    train(folders, "--run", "a")
    Path("runs/a/summary.json").unlink()
    path = Path("runs/a/last.pt")
    state = torch.load(path, weights_only=True)
    state["model"]["blocks.0.conv.bias"] = torch.zeros(32)
    checkpoint.save(path, state)
    resumed = call(train_main, "--resume", "runs/a", "--device", "cpu")
    for code, _, err in (call(snndelay_main, "evaluate", "runs/a"), resumed):
        assert (code, len(err.splitlines())) == (2, 1), err
        assert "another network than its settings describe" in err


@pytest.mark.parametrize("delays", ["learned", "fixed", "frozen"])
def test_delays_train_or_stay(folders, delays):
    made = job(folders, delays=delays, max_delay_steps=4, amp=False)
    net = new_net(made.settings, made.sizes, torch.device("cpu"))
    session = made.new_session(net)
    before = [layer.position.clone() for layer in net.delay_layers()]
    sigmas = []
    for _ in range(2):
        sigmas.append(one_epoch(session, made, NO_REPORT).get("sigma"))
        session.epoch += 1
    assert sigmas == ([None] * 2 if delays == "fixed" else [2.0, 0.23]), "the width, as for clips"
    for layer, old in zip(net.delay_layers(), before, strict=True):
        assert torch.equal(layer.position, old) == (delays != "learned")


def test_a_changed_data_set_is_noticed(tmp_path):
    recordings, images = write_tiny_vision(tmp_path / "data", 4)
    assert train((recordings, images), "--run", "a")[0] == 0
    extra = Path(recordings) / "dot/image_0009.bin"
    extra.write_bytes((Path(recordings) / "dot/image_0001.bin").read_bytes())
    code, _, err = call(snndelay_main, "evaluate", "runs/a")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "have changed since this run" in err
    Path("runs/a/summary.json").unlink()
    code, _, err = call(train_main, "--resume", "runs/a")
    assert code == 2 and "have changed since this run" in err


def test_the_summary_says_when_identities_do_not_meet(tmp_path):
    recordings, images = write_tiny_vision(tmp_path / "data", 4)
    for path in [*Path(images).glob("*/*.png")]:
        path.rename(path.with_name(f"other_{path.name}"))
    code, out, err = train((recordings, images), "--run", "a")
    assert (code, err) == (0, ""), err
    assert "no recording shows one of the static images" in out
    assert "no recording shows" in read_json(Path("runs/a/summary.json"))["split"]


def test_dvs_needs_nothing(monkeypatch):
    """On some of the digits: to simulate all of them takes half a minute."""
    whole = scanned_digits.digit_images()
    names = ("labels", "identities", "source")
    some = replace(whole, **{name: getattr(whole, name)[:300] for name in names})
    monkeypatch.setattr(scanned_digits, "digit_images", lambda: some)
    words = ["dvs", "--root", "cache", "--epochs", "1", "--warmup-epochs", "0", "--n-steps", "2"]
    code, out, err = call(train_main, *words)
    assert (code, err) == (0, ""), err
    assert "events alone" in out.splitlines()[-1]
    assert read_json(Path("runs/dvs-0/summary.json"))["events_alone"]["n_test"] > 80


def write_gestures(root: Path) -> None:
    """Files as tonic leaves those of DVS128-Gesture: (n, 4) x, y, p, ms."""
    rng = np.random.default_rng(0)
    for i in range(5):
        part, user = ("Train", f"user0{1 + i % 3}_lab") if i < 4 else ("Test", "user24_lab")
        path = root / f"DVSGesture/ibmGesture{part}/{user}/{i % 4}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.integers(0, [32 * (1 + i % 4), 128, 2, 5000], (400, 4)))


def write_cifar10dvs(root: Path) -> None:
    rng = np.random.default_rng(0)
    for where, name in enumerate(("cat", "airplane")):
        t_us, places = np.sort(rng.integers(0, 10**6, 300)), rng.integers(0, 64, (2, 300))
        events = Events(t_us, places[0] + 64 * where, places[1], rng.integers(0, 2, 300))
        for i in range(10):
            path = root / f"CIFAR10DVS/{name}/cifar10_{name}_{i}.aedat4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat4(events, size=(128, 128), per_packet=100))


@pytest.mark.parametrize(
    ("preset", "write", "n_test", "shape"),
    [("cifar10dvs", write_cifar10dvs, 2, "48 x 48"), ("dvsgesture", write_gestures, 1, "128 x 1")],
)
def test_the_presets_of_sltt_train(preset, write, n_test, shape):
    write(Path("cache"))
    size = ["--epochs", "1", "--batch-size", "4", "--n-steps", "4", "--threads", "1"]
    code, out, err = call(train_main, preset, "--root", "cache", *size, "--run", "a")
    assert (code, err) == (0, ""), err
    assert f"4 x 2 x {shape}" in out and "event_count" in out
    summary, config = (read_json(Path(f"runs/a/{n}.json")) for n in ("summary", "config"))
    assert summary["n_test"] == n_test and config["step_target"] in ("one-hot", 1.0)


def test_test_images_are_in_no_static_pool(folders):
    made = job(folders, valid_fraction=0.2)
    shown = {made.images.identities[i] for i in range(len(made.images))}
    assert shown == set(made.recordings.identities), "the test's own premise"
    n_held = len(made.valid) + len(made.test)
    assert len(made.static.images) == len(made.images) - n_held


def test_images_of_other_classes_are_left_out(folders, tmp_path):
    from PIL import Image

    recordings, images = folders
    for name in ("aaa", "zzz"):
        (tmp_path / "more" / name).mkdir(parents=True)
        Image.new("L", (16, 16)).save(tmp_path / "more" / name / "image_0001.png")
    for folder in Path(images).iterdir():
        (tmp_path / "more" / folder.name).symlink_to(folder)
    made, plain = job((recordings, str(tmp_path / "more"))), job(folders)
    assert np.array_equal(made.static.images.labels, plain.static.images.labels)
    assert np.array_equal(made.static.images.frames, plain.static.images.frames)


def test_partners_are_of_the_same_class_and_change_with_the_epoch(folders):
    made = job(folders, aug_crop=0)
    pool = made.static.images
    shown = np.stack([pool.sequence(i)[0, 0] for i in range(len(pool))])
    chosen = []
    for epoch in (0, 1):
        for pairs in made.batches(made.train, epoch):
            for b, label in enumerate(pairs.label_B.tolist()):
                image = pairs.static[0, b, 0].numpy()
                found = np.flatnonzero((shown == image).all((1, 2)))
                assert label in pool.labels[found], "a partner of another class"
                assert (pairs.static[:, b] == pairs.static[0, b, 0]).all(), "it must not move"
                chosen.append((epoch, int(pairs.index_B[b]), int(found[0])))
    first, second = ({(i, j) for e, i, j in chosen if e == epoch} for epoch in (0, 1))
    assert first != second
    again = [p for p in made.batches(made.train, 1)]
    for one, other in zip(again, made.batches(made.train, 1), strict=True):
        assert torch.equal(one.static, other.static) and torch.equal(one.x, other.x)


def test_batches_lie_channels_last_and_hold_the_recordings(folders):
    made = job(folders)
    (pairs, *_) = made.batches(made.test)
    assert pairs.static is None and pairs.x.permute(0, 1, 3, 4, 2).is_contiguous()
    for b, i in enumerate(pairs.index_B):
        assert np.array_equal(pairs.x[:, b].numpy(), made.test.sequence(int(i)))


def test_training_is_the_same_wherever_the_frames_lie(folders, tmp_path):
    recordings, images = folders
    flat = preset_settings("vision-small") | {
        "dataset": recordings, "static": images, "root": str(tmp_path), "epochs": 2, "n_steps": 4,
        "batch_size": 4, "warmup_epochs": 0, "aug_crop": 1, "aug_rotate": 9.0, "device": "cpu",
    }  # fmt: skip
    found = {}
    for place in ("host", "device"):
        made = open_job(from_flat(flat | {"data_on": place}))
        mapped = not made.train.frames.untyped_storage().resizable()
        session = made.new_session(new_net(made.settings, made.sizes, made.device))
        one_epoch(session, made, NO_REPORT)
        found[place] = session.net.state_dict()
        assert mapped == (place == "host"), "frames on the device are in memory"
    assert same(found["host"], found["device"])


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_the_same_wherever_the_frames_lie(folders):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    results = {}
    for place in ("host", "device"):
        made = job(folders, device="cuda", aug_rotate=9.0, sliding_end=0.5, data_on=place)
        assert made.train.on_host == (place == "host")
        net = new_net(made.settings, made.sizes, made.device)
        session = made.new_session(net)
        losses = [one_epoch(session, made, NO_REPORT)["loss"] for _ in range(2)]
        results[place] = losses, made.evaluate(net, made.test).predictions.tolist()
    assert results["host"] == results["device"]


def test_sliding_ends_with_the_samples_own_events(folders):
    made = job(folders)
    (pairs, *_) = made.batches(made.train, 0)
    assert torch.equal(vision.slide(pairs, 1.0, 0, 0).static, pairs.x)
    assert torch.equal(vision.slide(pairs, 0.0, 0, 0).static, pairs.static)
    part = vision.slide(pairs, 0.5, 0, 0).static
    own = [bool((part[:, b] == pairs.x[:, b]).all()) for b in range(part.shape[1])]
    assert all(
        torch.equal(part[:, b], (pairs.x if mine else pairs.static)[:, b])
        for b, mine in enumerate(own)
    )


def test_learning_rate_warms_up_and_falls_as_published():
    lr, flat = 5e-3 * 120 / 1024, preset_settings("ncaltech101")
    settings = from_flat({name: value for name, value in flat.items() if name != "size"})
    rates = [lr * rate_factor(epoch, settings) for epoch in range(311)]
    for epoch in range(5):
        assert math.isclose(rates[epoch], 1e-6 + epoch * (lr - 1e-6) / 5)
    for epoch in range(5, 300):  # the cosine counts from epoch 0, the warm-up notwithstanding
        want = 1e-5 + (lr - 1e-5) * (1 + math.cos(math.pi * epoch / 300)) / 2
        assert math.isclose(rates[epoch], want), f"epoch {epoch}: {rates[epoch]}, not {want}"
    assert np.allclose(rates[300:], 1e-5, rtol=1e-9), "the cool-down"


def test_learning_rate_falls_by_a_cosine_to_0_as_published_with_sltt():
    settings = from_flat(preset_settings("cifar10dvs"))
    net = torch.nn.Linear(1, 1)
    sgd = torch.optim.SGD(net.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 300)
    for epoch in range(300):
        want = sgd.param_groups[0]["lr"]
        assert math.isclose(0.05 * rate_factor(epoch, settings), want, abs_tol=1e-12)
        sgd.step()
        schedule.step()


def test_finetune_has_two_phases_with_schedules_of_their_own():
    settings = from_flat(
        {"kind": "vision", "epochs": 10, "transfer": "finetune", "pretrain_epochs": 4}
        | {"warmup_epochs": 1, "cooldown_epochs": 2}
    )
    images = [phase(epoch, settings)[2] for epoch in range(10)]
    assert images == [True] * 4 + [False] * 6
    assert rate_factor(4, settings) == rate_factor(0, settings)
    end = settings.recipe.lr_end / settings.recipe.lr
    at_end = [math.isclose(rate_factor(epoch, settings), end) for epoch in range(10)]
    assert at_end == [False] * 8 + [True] * 2, "the cool-down ends the run"


def test_images_have_given_way_in_the_cool_down(folders):
    made = job(folders, epochs=4, cooldown_epochs=2, batch_size=8, lr_end=0.0)
    session = made.new_session(new_net(made.settings, made.sizes, torch.device("cpu")))
    chances, weights = [], []
    for _ in range(4):
        chances.append(one_epoch(session, made, NO_REPORT)["replacement"])
        weights.append(session.net.heads["event"].weight.clone())
        session.end_epoch()
    n = len(made.batches(made.train, 0))
    want = [np.mean([((i + n * e) / (2 * n)) ** 3 for i in range(n)]) for e in range(2)]
    assert np.allclose(chances, [*want, 1.0, 1.0])
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[1], weights[3])


def decays(net, **changes):
    """Weight decay of every parameter by name, under a preset's settings."""
    flat = preset_settings("ncaltech101") | {"size": None, "n_out": None} | changes
    session = vision.new_session(net, from_flat(flat))
    (optimizer,) = session.optimizers
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: of[id(p)] for name, p in net.named_parameters()}


def test_weight_decay_spares_vectors_as_published_unless_it_is_on_all():
    from snndelay import ConvNet

    net = ConvNet("small", 3, (16, 16), 4, two_heads=True, max_delay_steps=3)
    spared = decays(net)
    for name, p in net.named_parameters():  # timm's rule: no decay of vectors and biases
        assert spared[name] == (0.01 if p.ndim > 1 else 0.0), name
    everywhere = decays(net, weight_decay_on="all")
    for name in everywhere:
        assert everywhere[name] == (0.0 if "position" in name else 0.01), name


ERRORS = {
    "delays": (["--delays", "learned", "--max-delay-steps", "9"], "max_delay_steps is 9"),
    "warm-up": (
        ["--warmup-epochs", "2"],
        "warmup_epochs 2 leaves no epoch of 2: raise --epochs or",
    ),
    "cool-down": (
        ["--warmup-epochs", "1", "--cooldown-epochs", "1"],
        "warmup_epochs 1 and cooldown_epochs 1 leave no epoch of 2: raise --epochs or give "
        "--warmup-epochs 0 --cooldown-epochs 0",
    ),
    "target": (["--step-target", "onehot"], "did you mean one-hot?"),
    "no effect": (["--momentum", "0.5"], "add --optimizer sgd"),
    "loss": (["--loss", "logit_sum"], "--loss is for audio"),
    "no steps": (["--n-steps", "null"], "--n-steps is null: give a value of type int"),
    "pre-training": (["--transfer", "finetune", "--pretrain-epochs", "2"], "--pretrain-epochs"),
    "no images": (["--static", "null"], "give --static FOLDER"),
    "images missing": (["--static", "none"], "none"),
    "audio option": (["--n-hidden", "3"], "--n-hidden is for audio"),
    "coefficient": (["--coefficient", "2"], "give learned, off or a number from 0 to 1"),
    "batch of one": (["--batch-size", "1"], "--batch-size 3 or more"),
    "K above T": (["--temporal-gradient", "sltt", "--backward-steps", "9"], "backward_steps"),
    "K without sltt": (["--backward-steps", "2"], "--temporal-gradient sltt"),
    "framing": (["--framing", "grid"], "time_bins, event_count, time_window"),
    "too many labels": (["--n-labelled", "1000"], "n_labelled"),
    "schedule": (["--sliding", "cosin"], "did you mean cosine?"),
    "network": (["--network", "vgg12"], "did you mean vgg11?"),
    "too small": (["--network", "vgg11", "--frame-size", "8"], "8"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_sentence(folders, case):
    argv, words = ERRORS[case]
    code, _, err = train(folders, *argv)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert words in err, err
    assert not Path("runs").exists() or not list(Path("runs").iterdir()), "a run folder is left"


def test_a_damaged_recording_is_named(tmp_path):
    recordings, images = write_tiny_vision(tmp_path / "data", 4)
    path = Path(recordings) / "dot/image_0002.bin"
    path.write_bytes(path.read_bytes()[:-2])
    code, _, err = train((recordings, images))
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "image_0002.bin" in err and "byte" in err


def test_a_class_without_images_is_named(tmp_path):
    recordings, images = write_tiny_vision(tmp_path / "data", 4)
    for path in (Path(images) / "post").iterdir():
        path.unlink()
    code, _, err = train((recordings, images))
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "post" in err
