"""`--precision`: a run sets torch's own switches, and puts them back."""

import pytest
import torch

import snndelay
from snndelay.errors import ConfigError
from snndelay.kernels.precision import PARTS, products_in_tf32, triton_precision
from snndelay.runs import training
from snndelay.runs.precision import PRECISIONS, float32_precision

from ...helpers_training import TINY


def switches() -> tuple:
    """What torch's switches read, and whether its older ones can be read."""
    b, found = torch.backends, []
    for read in (lambda: b.cudnn.allow_tf32, torch.get_float32_matmul_precision):
        try:
            found.append(read())
        except RuntimeError:
            found.append("mixed")
    parts = (b, b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul, b.mkldnn.matmul)
    return *found, *(part.fp32_precision for part in parts)


@pytest.fixture(autouse=True)
def _as_torch_starts():
    yield
    torch.backends.fp32_precision = torch.backends.cudnn.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for part in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        part.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True


def mixed() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def inherited() -> None:
    torch.backends.fp32_precision = "tf32"


def forbidden() -> None:
    torch.backends.cudnn.allow_tf32 = False


def in_bfloat16() -> None:
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("start", [lambda: None, mixed, inherited, forbidden, in_bfloat16])
def test_the_switches_are_set_and_put_back(name, start):
    start()
    before = switches()
    with float32_precision(name):
        assert triton_precision() == name
        assert products_in_tf32() == (name == "fast")
    assert switches() == before


def test_every_precision_of_the_kernels_can_be_asked_for():
    assert set(PRECISIONS) == set(PARTS)


@pytest.mark.parametrize(("asked", "want"), [(None, "default"), *((p, p) for p in PRECISIONS)])
def test_a_run_computes_as_asked(files, tmp_path, monkeypatch, asked, want):
    found, one_epoch = [], training.one_epoch
    monkeypatch.setattr(
        training, "one_epoch", lambda *a: found.append(triton_precision()) or one_epoch(*a)
    )
    before = switches()
    flat = {"dataset": files[0], "test_file": files[1], "runs": str(tmp_path), **TINY, "epochs": 1}
    snndelay.fit(flat | {"precision": asked}, draw=False)
    assert found == [want] and switches() == before


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="unknown precision 'hihgest': did you mean highest"):
        snndelay.runs.flat.from_flat({"precision": "hihgest"})
