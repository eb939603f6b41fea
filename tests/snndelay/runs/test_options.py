"""Options: those of the run's kind, their help, and what has no effect."""

import pytest

from snndelay.data.catalog import DATASETS
from snndelay.errors import ConfigError, UserError
from snndelay.networks import NETWORKS
from snndelay.runs.cli import main as snndelay_main
from snndelay.runs.flat import from_flat, lines_of
from snndelay.runs.help import help_all
from snndelay.runs.options import parse_train, train_parser
from snndelay.runs.presets import OWN, PRESETS
from snndelay.runs.settings import KINDS, networks_of

from ...helpers_training import call, load_train_py

train_main = load_train_py().main

ALL = [
    "--allow-changes", "--checkpoint-every",
    "--backend", "--batch-size", "--config", "--data-on", "--dataset", "--delay-kind", "--delays",
    "--device", "--epochs", "--grad-clip", "--graph", "--help", "--help-all", "--list", "--lr",
    "--lr-position", "--max-delay-steps", "--network", "--precision", "--preset", "--reset",
    "--resume", "--round-fraction", "--run", "--runs", "--seed", "--sigma-end", "--sigma-epochs",
    "--sigma-start", "--surrogate", "--surrogate-alpha", "--tau", "--threads", "--v-threshold",
    "--version",
]  # fmt: skip
BOTH = [  # audio and vision
    *ALL, "--amp", "--average-fraction", "--backward-steps", "--decay-input", "--detach-reset",
    "--download", "--dropout", "--dt-ms", "--framing", "--learn-tau",
    "--n-out", "--n-steps", "--neuron", "--protocol", "--recompute", "--refractory", "--root",
    "--skip-bad", "--tau-init", "--tau-max", "--temporal-gradient", "--v-reset",
    "--valid-fraction", "--weight-decay",
]  # fmt: skip
OPTIONS = {
    "audio": [
        *BOTH,
        "--aug-cutmix", "--aug-noise", "--aug-reverse",
        "--aug-drop", "--aug-mix", "--aug-time-jitter-ms", "--aug-time-mask-ms", "--aug-time-scale",
        "--aug-time-shift-ms", "--aug-unit-jitter", "--aug-unit-mask", "--aug-unit-scale",
        "--aug-unit-shift", "--batchnorm", "--cache", "--dropout-mask", "--fan-in",
        "--kernel-count", "--label-key", "--label-smoothing", "--loss", "--lr-max", "--n-hidden",
        "--n-in", "--n-layers",
        "--n-mels", "--n-units", "--padding", "--window-ms", "--window-overlap",
        "--readout", "--reverse", "--spikes-per-unit", "--test-file", "--time-unit", "--time-zero",
        "--units-per-channel", "--weight-bits", "--weights", "--workers",
    ],
    "vision": [
        *BOTH,
        "--aug-cutout", "--aug-drop", "--aug-noise", "--aug-one", "--aug-polarity",
        "--aug-time-mask", "--aug-time-shift",
        "--aug-crop", "--aug-flip", "--aug-rotate", "--cache", "--coefficient",
        "--compare", "--cooldown-epochs", "--domain-weight", "--drop-last", "--events-per-step",
        "--frame-resize", "--frame-size", "--lr-end", "--momentum", "--n-labelled", "--optimizer",
        "--pretrain-epochs", "--sampling", "--sensor", "--size", "--sliding", "--sliding-end",
        "--sliding-power", "--split", "--static", "--static-as", "--static-channel", "--static-fit",
        "--hot-pixels", "--noise-ms", "--shrink", "--stride-ms", "--surface", "--surface-tau-ms",
        "--thin-ms", "--voxel",
        "--step-lambda", "--step-target", "--test-fraction", "--time-unit", "--time-zero",
        "--transfer", "--warmup-epochs", "--weight-decay-on",
    ],
    "memory": [
        *ALL,
        "--bit-steps", "--curriculum", "--lr-tau", "--n-hidden", "--n-max",
        "--n-start", "--n-test", "--steps-per-epoch", "--tau-out", "--threshold",
    ],
}  # fmt: skip
TARGETS = {"audio": "shd", "vision": "dvs", "memory": "n-dms"}


@pytest.fixture(autouse=True)
def _as_train_py(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["train.py"])
    monkeypatch.chdir(tmp_path)


def train(*argv):
    """Exit code, stdout, stderr of `python train.py ARGV`."""
    return call(train_main, *argv)


@pytest.mark.parametrize("kind", KINDS)
def test_option_names_are_frozen(kind):
    found = [o for a in train_parser(kind)._actions for o in a.option_strings]
    assert sorted(found) == sorted(OPTIONS[kind]), f"changed: {set(found) ^ set(OPTIONS[kind])}"


def test_help_fits_a_screen():
    code, text, err = train("--help")
    lines = text.splitlines()
    assert (code, err) == (0, "")
    assert len(lines) <= 39, f"--help has {len(lines)} lines"
    assert max(map(len, lines)) <= 80, max(lines, key=len)


@pytest.mark.parametrize("kind", KINDS)
def test_help_all_names_every_option_of_the_kind(kind):
    code, text, _ = train(TARGETS[kind], "--help-all")
    assert code == 0
    missing = [o for o in OPTIONS[kind] if f"  {o} " not in text]
    assert not missing, f"--help-all lacks {missing}"
    others = set(KINDS) - {kind}
    known = {o for other in others for o in OPTIONS[other]}
    foreign = [o for o in known - set(OPTIONS[kind]) if f"  {o} " in text]
    assert not foreign, f"--help-all has {foreign}"
    assert max(map(len, text.splitlines())) <= 80
    first = {"audio": "spoken-digits", "vision": "dvs", "memory": "n-parity"}
    for other in others:
        line = f"for {other}: python train.py {first[other]} --help-all"
        assert line in text, "how to see the other kinds"


def test_help_all_without_a_target_is_that_of_the_default_run():
    default, digits = (train(*argv, "--help-all")[1] for argv in ((), ("spoken-digits",)))
    assert default == digits


def test_help_all_shows_the_values_of_the_recipe():
    text = train("ssc", "--help-all")[1]
    assert "neurons per hidden layer; 256,128: one number for each" in text and "[512]" in text
    for choice in ("lif, if, plif, adlif", "atan, sigmoid, triangle"):
        assert choice in text, "choices that the help does not say come from their registry"
    assert "with --delays learned, fixed or frozen" in " ".join(text.split())


def test_help_all_says_what_each_network_is():
    for kind in KINDS:
        text = " ".join(help_all(kind, {}).split())
        for name in networks_of(kind):
            assert f"{name}, {NETWORKS[name].help}" in text


def test_a_new_entry_of_a_registry_is_in_the_help(monkeypatch):
    from snndelay.kernels import NEURONS

    monkeypatch.setitem(NEURONS, "mine", NEURONS["lif"])
    assert "cuba, mine" in help_all("audio", {})


def test_list_names_presets_and_data_sets():
    code, text, _ = train("--list")
    assert code == 0
    for name in (*PRESETS, "data sets", "spoken-digits"):
        assert name in text, f"--list lacks {name}"


def test_the_kind_comes_from_the_data(tmp_path):
    (tmp_path / "recordings").mkdir()
    (tmp_path / "a.yaml").write_text("dataset: recordings\naug_crop: 3\ncoefficient: 0.5\n")
    for argv, kind, preset in (
        ([], "audio", "spoken-digits"),
        (["ssc"], "audio", "ssc"),
        (["dvs"], "vision", "dvs"),
        (["x.h5"], "audio", "audio-small"),
        (["x.h5", "--preset", "gsc"], "audio", "gsc"),
        (["recordings"], "vision", "vision-small"),
        (["recordings", "--preset", "ncaltech101"], "vision", "ncaltech101"),
        (["--dataset", "nmnist"], "vision", "nmnist"),
        (["n-dms"], "memory", "n-dms"),
        (["n-dms", "--preset", "n-parity"], "memory", "n-parity"),
        (["--config", "a.yaml"], "vision", "vision-small"),
    ):
        request = parse_train(argv)
        settings = from_flat(request.settings)
        assert (settings.kind, request.preset) == (kind, preset), argv
        assert getattr(settings.network, "size", None) is None, "sizes are those of the data"
    assert settings.transfer.coefficient == 0.5 and settings.augment.aug_crop == 3


# every data set with two presets of each kind, every preset with two data sets of each kind
PAIRS = [
    (name, preset)
    for name in DATASETS
    for preset in ("shd", "audio-small-tuned", "dvs", "vision-small")
]
PAIRS += [(name, preset) for preset in PRESETS for name in ("shd", "ssc", "dvs", "nmnist")]
PAIRS += [(name, preset) for preset in ("n-dms", "n-parity") for name in ("n-parity", "n-dms")]


@pytest.mark.parametrize(("name", "preset"), dict.fromkeys(PAIRS))
def test_the_data_named_are_those_of_the_run(name, preset):
    named = ["--dataset", name] if (len(name) + len(preset)) % 2 else [name]
    argv = [*named, "--preset", preset]
    if PRESETS[preset]["kind"] != DATASETS[name].kind:
        with pytest.raises(ConfigError) as caught:
            parse_train(argv)
        words = f"is for {PRESETS[preset]['kind']}, and this run is on {DATASETS[name].kind}"
        assert f"preset {preset} {words}: try --preset {name}" in str(caught.value)
        return
    request = parse_train(argv)
    settings = from_flat(request.settings)
    assert (settings.data.dataset, request.preset) == (name, preset), argv
    assert request.settings["epochs"] == PRESETS[preset]["epochs"], "the recipe of the preset"


@pytest.mark.parametrize("name", DATASETS)
def test_data_without_a_preset_have_their_own(name):
    request = parse_train([name])
    assert (request.preset, request.settings["dataset"]) == (name, name)


def test_words_of_the_command_line_may_not_contradict_each_other():
    for argv, words in (
        (["shd", "--dataset", "ssc"], "both shd and --dataset ssc: give one of them"),
        (
            ["audio-small", "--preset", "audio-small-tuned"],
            "both audio-small and --preset audio-small-tuned: give one of them",
        ),
        (
            ["audio-small-tuned"],
            "preset audio-small-tuned has no data: python train.py FILE.h5 --preset audio-small-",
        ),
        (["--preset", "vision-small"], "preset vision-small has no data: python train.py FOLDER"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_train(argv)
        assert words in str(caught.value)
    assert parse_train(["shd", "--dataset", "shd"]).settings["dataset"] == "shd"
    assert parse_train(["audio-small-tuned", "--dataset", "shd"]).settings["dataset"] == "shd"
    assert "[160]" in parse_train(["audio-small-tuned", "--help-all"]).text, (
        "a recipe has help without data"
    )


@pytest.mark.parametrize("like", ["spoken-digits", "dvs", "n-dms"])
def test_a_data_set_needs_only_its_row(like, monkeypatch):
    monkeypatch.setitem(DATASETS, "blinks", DATASETS[like])
    request = parse_train(["blinks"])
    settings = from_flat(request.settings)
    assert (settings.data.dataset, settings.kind) == ("blinks", DATASETS[like].kind)
    assert request.preset == OWN[settings.kind]
    assert "blinks" in train("--list")[1]
    assert "unknown preset 'blink': did you mean blinks?" in train("blink")[2]


IN_FILE = {
    "name": ("1: 2", "1 is no setting"),
    "number": ("dataset: 5", "dataset is 5: give one name"),
    "list": ("dataset: [a]", "dataset is ['a']: give one name"),
    "mapping": ("dataset: {a: 1}", "dataset is {'a': 1}: give one name"),
    "null": ("dataset: null", "dataset is null"),
    "preset": ("preset: [shd]", "preset is ['shd']: give one name"),
    "no preset": ("preset: nope", "unknown preset 'nope'"),
    "no data": ("dataset: shdd", "did you mean shd?"),
    "kind alone": ("kind: vision", "is for vision, and this run is on audio: add a line `dataset`"),
    "other kind": ("kind: vision\ndataset: shd", "leave out its line `kind`"),
    "no kind": ("kind: video", "unknown kind 'video'"),
    "twice": ("epochs: 3\nepochs: 4", "epochs stands there more than once: keep one"),
    "choice": ("delays: lerned", "unknown delays 'lerned': did you mean learned?"),
    "network": ("network: vgg", "network vgg is for vision"),
    "null number": ("dropout: null", "dropout is null: give a value of type float"),
    "range": ("dropout: 2", "dropout is 2"),
    "widths": ("n_hidden: [64, a]", "n_hidden is [64, 'a']: give a value of type int or int,int"),
    "unknown": ("epocs: 3", "did you mean epochs?"),
}


@pytest.mark.parametrize("case", IN_FILE)
def test_what_is_wrong_in_a_file_is_one_sentence_with_its_name(case, tmp_path):
    text, words = IN_FILE[case]
    (tmp_path / "my.yaml").write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        parse_train(["--config", "my.yaml"])
    message = str(caught.value)
    assert message.startswith("my.yaml"), message
    assert words in message and "\n" not in message, message


SENTENCES = {
    "empty width": (["--n-hidden", ""], "--n-hidden is empty: give a value of type int or int,int"),
    "empty rate": (["--lr", ""], "--lr is empty: give a value of type float"),
    "width": (["--n-hidden", "64,a"], "--n-hidden is 64,a: give a value of type int or int,int"),
    "version": (
        ["--version"],
        "--version needs a value, v0, v1, max, gauss or triangle, the shape of a",
    ),
    "choice": (["--delays"], "--delays needs a value, learned, fixed, frozen or none"),
    "short": (["-e", "3"], "unknown option -e: see --help-all"),
    "bogus": (["--bogus"], "unknown option --bogus: see --help-all"),
    "epochs": (["--epochs", "0"], "epochs is 0: choose a number from 1 to 1000000"),
    "seed": (["--seed", "-1"], "seed is -1: choose a number from 0 to 2147483647"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_a_wrong_option_is_a_sentence(case):
    argv, words = SENTENCES[case]
    code, _, err = train(*argv)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert words in err, err
    assert "<class" not in err and "e+" not in err


def test_a_file_gives_way_to_the_command_line(tmp_path):
    text = "kind: audio\npreset: audio-small-tuned\ndataset: ssc\nepochs: 7\n"
    (tmp_path / "a.yaml").write_text(text)
    for argv, dataset, preset in (
        ([], "ssc", "audio-small-tuned"),
        (["shd"], "shd", "audio-small-tuned"),
        (["audio-small"], "ssc", "audio-small"),
        (["--dataset", "shd"], "shd", "audio-small-tuned"),
        (["--preset", "shd"], "ssc", "shd"),
    ):
        request = parse_train([*argv, "--config", "a.yaml"])
        assert (request.settings["dataset"], request.preset) == (dataset, preset), argv
        assert request.settings["epochs"] == 7


def test_types_are_those_of_the_kind():
    assert parse_train(["shd", "--n-steps", "null"]).settings["n_steps"] is None
    with pytest.raises(ConfigError, match="--n-steps is null: give a value of type int"):
        parse_train(["dvs", "--n-steps", "null"])


def test_one_width_or_one_per_layer(tmp_path):
    (tmp_path / "a.yaml").write_text("n_hidden: [16, 8]\n")
    for argv, widths in (
        (["--n-hidden", "12"], 12),
        (["--n-hidden", "16,8"], (16, 8)),
        (["--n-hidden=16,8,4"], (16, 8, 4)),
        (["--config", "a.yaml"], (16, 8)),
    ):
        network = from_flat(parse_train(argv).settings).network
        assert network.n_hidden == widths, argv
        assert network.n_layers == (2 if widths == 12 else len(widths))
    assert parse_train(["--run", "1,2"]).settings["run"] == "1,2", "a name, not a list"


NO_EFFECT = {
    "rate": (["shd", "--lr", "0.1"], "with lr_max 0.005: add --lr-max null"),
    "taps": (
        ["dvs", "--max-delay-steps", "5"],
        "with delays none: add --delays learned, fixed or frozen",
    ),
    "position": (["shd", "--lr-position", "1", "--config", "fixed.yaml"], "add --delays learned"),
    "window": (["dvs", "--dt-ms", "5"], "add --framing time_window or time_surface"),
    "stride": (["dvs", "--stride-ms", "5"], "add --framing time_window"),
    "surface": (["dvs", "--surface", "sum"], "add --framing time_surface"),
    "decay": (["dvs", "--surface-tau-ms", "5"], "add --framing time_surface"),
    "voxel": (["dvs", "--voxel", "signed"], "add --framing voxel_grid"),
    "count": (["dvs", "--events-per-step", "5"], "add --framing event_count"),
    "K": (["shd", "--backward-steps", "2"], "add --temporal-gradient sltt"),
    "two links": (
        ["cifar10dvs", "--sliding-power", "2"],
        "with transfer off: add --transfer align",
    ),
    "both given": (
        ["shd", "--delays", "none", "--max-delay-steps", "5"],
        "leave out --max-delay-steps or change --delays to learned, fixed or frozen",
    ),
    "width": (["shd", "--sigma-start", "3", "--delays", "none"], "with delays none: leave out"),
    "elements": (["shd", "--kernel-count", "2", "--delays", "none"], "with delays none: leave out"),
    "images": (["dvs", "--transfer", "off", "--static", "digits"], "with transfer off: leave out"),
    "rise": (["dvs", "--sliding-power", "2", "--transfer", "off"], "with transfer off: leave out"),
    "window and count": (
        ["dvs", "--framing", "event_count", "--dt-ms", "5"],
        "with framing event_count: leave out --dt-ms or change --framing to time_window or "
        "time_surface",
    ),
    "narrow taps": (["shd", "--version", "v1", "--sigma-end", "1"], "with version v1: leave out"),
    "fit": (["dvs", "--static-fit", "resize"], "with static_as saccade: add --static-as image"),
    "last N": (["n-dms", "--n-max", "9", "--curriculum", "single"], "leave out --n-max"),
    "spikes": (["n-parity", "--v-threshold", "2"], "with network rate: add --network spiking"),
}


@pytest.mark.parametrize("case", NO_EFFECT)
def test_an_option_without_effect_is_refused(case, tmp_path):
    (tmp_path / "fixed.yaml").write_text("delays: fixed\n")
    argv, words = NO_EFFECT[case]
    with pytest.raises(ConfigError) as caught:
        parse_train(argv)
    assert f"has no effect {words}" in str(caught.value) or words in str(caught.value)
    assert "has no effect" in str(caught.value) and "\n" not in str(caught.value)


def test_conditions_see_the_defaults_too():
    assert parse_train(["nmnist", "--sliding-power", "2"]).settings["sliding_power"] == 2
    assert parse_train(["shd", "--lr", "0.1", "--lr-max", "null"]).settings["lr"] == 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_of_the_other_kind_says_so(kind):
    others = {other: lines_of(other) for other in KINDS if other != kind}
    for name in {name for lines in others.values() for name in lines} - lines_of(kind).keys():
        option = "--" + name.replace("_", "-")
        code, _, err = train(TARGETS[kind], option, "1")
        assert (code, len(err.splitlines())) == (2, 1), err
        owners = " and ".join(other for other, lines in others.items() if name in lines)
        assert f"{option} is for {owners}, and this run is on {kind}" in err


def test_snndelay_train_is_train_py(files, tmp_path, monkeypatch):
    assert call(snndelay_main, "--help")[1].count("snndelay train ") >= 1
    one = call(snndelay_main, "train", "dvs", "--help-all")
    assert one == train("dvs", "--help-all")
    monkeypatch.setattr("sys.argv", ["snndelay"])
    code, out, _ = call(snndelay_main, "train", "--help")
    assert code == 0 and "usage: snndelay train [PRESET" in out and "train.py" not in out
    assert max(map(len, out.splitlines())) <= 80
    code, _, err = call(snndelay_main, "train", "audio-small-tuned")
    assert code == 2 and "snndelay train FILE.h5 --preset audio-small-tuned" in err
    monkeypatch.setattr("snndelay.runs.audio.AudioJob.draw", lambda *_, **__: [])
    argv = [files[0], "--epochs", "1", "--n-hidden", "8,6", "--max-delay-steps", "5", "--run", "a"]
    code, out, err = call(snndelay_main, "train", *argv, "--threads", "1")
    assert (code, err) == (0, ""), err
    assert (tmp_path / "runs/a/summary.json").exists()
