"""The reference is exact: no TF32 in the convolutions that it is compared with on a GPU; and tests
that fill a GPU take turns."""

import fcntl

import pytest
import torch


@pytest.fixture(autouse=True)
def _exact_convolutions():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def _much_memory(tmp_path_factory):
    """One test at a time in all processes (`pytest -n`), which gives its memory back at the end."""
    with open(tmp_path_factory.getbasetemp().parent / "much_memory", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        torch.cuda.empty_cache()
