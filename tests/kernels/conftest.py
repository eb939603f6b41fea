"""The reference is exact: no TF32 in the convolutions that it is compared with on a GPU."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _exact_convolutions():
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before
