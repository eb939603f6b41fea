"""Runs whose steps and evaluations are graphs equal runs without them, to the last bit."""

import pytest
import torch

from snndelay import evaluate, fit
from snndelay.errors import Interrupted
from snndelay.recorded import Graphed
from snndelay.runs import checkpoint
from snndelay.runs.presets import preset_settings
from snndelay.runs.report import read_metrics

from ...helpers_replay import as_on_a_gpu
from ...helpers_training import TINY, write_tiny
from ...helpers_vision import write_tiny_vision

SLTT = {"loss": "tet", "temporal_gradient": "sltt", "padding": "causal"}
AUDIO = {
    "plain": {},
    "lengths, augmentation and clipping": {
        "n_steps": None, "aug_time_shift_ms": 40.0, "grad_clip": 0.5,
    },
    "step by step": SLTT | {"n_steps": 8},
    "some steps": SLTT | {"n_steps": 8, "backward_steps": 3},
}  # fmt: skip
VISION = {
    "aligned": {"transfer": "align"},
    "aligned, step by step": {"transfer": "align", "temporal_gradient": "sltt"},
    "finetuned, some steps": {
        "transfer": "finetune", "temporal_gradient": "sltt", "backward_steps": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[dict, dict]:
    """Flat settings of a tiny run on clips, and of one on recordings."""
    folder = tmp_path_factory.mktemp("sets")
    clips = {"dataset": write_tiny(folder / "train.h5", 18), "valid_fraction": 0.3}
    clips |= {"test_file": write_tiny(folder / "test.h5", 6, seed=1)}
    recordings, images = write_tiny_vision(folder, 8)
    seen = preset_settings("vision-small") | {
        "dataset": recordings,
        "static": images,
        "cache": False,
    }
    seen |= {"n_steps": 4, "epochs": 4, "batch_size": 4, "warmup_epochs": 0, "threads": 1}
    seen |= {"delays": "learned", "max_delay_steps": 2, "dropout": 0.2, "root": str(folder)}
    return TINY | clips | {"epochs": 4}, seen | {"valid_fraction": 0.3}


def states_of(folder) -> list:
    """All that a run leaves: weights, moments, and every figure but the time it took."""
    state = checkpoint.load(folder / "last.pt")
    records = read_metrics(folder / "metrics.jsonl")
    figures = [{k: v for k, v in r.items() if k != "seconds"} for r in records]
    return [state["model"], state["optimizers"], figures]


def assert_same(one, other, where="") -> None:
    """Tensors bit for bit, and the ways of the optimizers set aside: each device has its own."""
    if torch.is_tensor(one):
        assert torch.equal(one, other), f"{where}: {(one - other).abs().max()}"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert one == other, f"{where}: {one} and {other}"


def run(flat: dict, folder, name: str, graph: str, **how) -> list:
    fit(flat | {"runs": str(folder), "run": name, "graph": graph}, draw=False, **how)
    return states_of(folder / name)


CASES = [pytest.param("audio", name, id=f"audio, {name}") for name in AUDIO]
CASES += [pytest.param("vision", name, id=f"vision, {name}") for name in VISION]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_run_with_graphs_equals_one_without(sets, tmp_path, kind, name, monkeypatch):
    flat = sets[0] | AUDIO[name] if kind == "audio" else sets[1] | VISION[name]
    replays, plain = [], Graphed.__call__

    def counted(self, *inputs):
        outputs = plain(self, *inputs)
        replays.append(self.n_graphs)
        return outputs

    monkeypatch.setattr(Graphed, "__call__", counted)
    with as_on_a_gpu():
        graphs = run(flat, tmp_path, "graphs", "auto")
        assert max(replays) > 0, "nothing was recorded"
        replays.clear()
        assert_same(run(flat, tmp_path, "eager", "off"), graphs)
        assert max(replays, default=0) == 0


def test_a_run_with_graphs_is_evaluated_where_there_are_none(sets, tmp_path):
    with as_on_a_gpu():
        run(sets[0] | {"epochs": 1}, tmp_path, "graphs", "on")
    assert evaluate(tmp_path / "graphs", device="cpu")["n"] == 6


def test_a_resumed_run_equals_a_straight_one(sets, tmp_path, monkeypatch):
    from snndelay.runs import training

    with as_on_a_gpu():
        straight = run(sets[0], tmp_path, "straight", "on")
        plain, epochs = training.one_epoch, []

        def stopped(session, *rest):
            if len(epochs) == 2:
                raise KeyboardInterrupt
            epochs.append(1)
            return plain(session, *rest)

        monkeypatch.setattr(training, "one_epoch", stopped)
        with pytest.raises(Interrupted):
            run(sets[0], tmp_path, "broken", "on")
        monkeypatch.undo()
    with as_on_a_gpu():  # undo has undone it
        assert_same(run(sets[0], tmp_path, "broken", "on", resume=tmp_path / "broken"), straight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_run_with_graphs_equals_one_without_on_a_gpu(sets, tmp_path, kind, name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # see test_graphs.py
    flat = sets[0] | AUDIO[name] if kind == "audio" else sets[1] | VISION[name]
    flat = flat | {"device": "cuda"}
    assert_same(*(run(flat, tmp_path, graph, graph) for graph in ("on", "off")))
