"""Runs of the recurrent network, from the command to the plots."""

import pytest

from snndelay.errors import ConfigError
from snndelay.runs.flat import from_flat

from ...helpers_training import TINY_OPTIONS, call, load_train_py


def train(files, folder, *words):
    given = ["--dataset", files[0], "--test-file", files[1], "--runs", str(folder)]
    tiny = list(TINY_OPTIONS)
    if "none" in words:  # a window would have no effect
        at = tiny.index("--max-delay-steps")
        del tiny[at : at + 2]
    return call(load_train_py().main, *given, *tiny, "--network", "recurrent", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["--delay-kind", "axonal", "--version", "triangle", "--sigma-start", "3"],
        ["--delay-kind", "synaptic", "--recompute", "true", "--neuron", "adlif"],
        ["--delays", "none"],
        ["--temporal-gradient", "sltt", "--padding", "causal", "--loss", "tet"],
    ],
    ids=lambda words: words[1],
)
def test_a_run_ends_with_its_plots(files, tmp_path, words):
    code, out, err = train(files, tmp_path, *words)
    assert code == 0 and "backends: recurrent_lif cpu" in out, err
    (folder,) = tmp_path.iterdir()
    for name in ("learning_curves", "delays", "confusion", "raster"):
        assert (folder / f"{name}.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--delay-kind", "hybrid"], "recurrent delays are axonal or synaptic, not 'hybrid'"),
        (["--kernel-count", "2"], "recurrent synapses have one element: leave it out"),
        (["--network", "delay", "--version", "triangle"], "version must be one of"),
    ],
    ids=lambda words: words[-1],
)
def test_what_has_no_effect_is_refused(files, tmp_path, words, sentence):
    code, _, err = train(files, tmp_path, *words)
    assert code == 2 and sentence in err, err


@pytest.mark.parametrize(
    ("flat", "sentence"),
    [
        ({"network": "recurrent", "delay_kind": "common"}, "recurrent delays are axonal or"),
        ({"network": "recurrent", "kernel_count": 2}, "recurrent synapses have one element"),
        ({"version": "triangle"}, "which is of --network recurrent"),
        ({"kind": "vision", "version": "triangle"}, "which is of --network recurrent"),
    ],
)
def test_settings_say_so_before_data_are_opened_or_a_study_starts(flat, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_flat(flat)
    assert from_flat({"network": "recurrent", "version": "triangle", "delay_kind": "axonal"})
