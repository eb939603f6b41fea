import pytest
import torch
import torch.nn.functional as F

from snndelay.pooling import CellMean

from ..conftest import assert_close


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5), (7, 7), (9, 16)])
def test_equals_the_adaptive_pooling_of_torch(size):
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    want = F.adaptive_avg_pool2d(x, 7)
    got = CellMean(size, 7).double()(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert_close(got, want, 1e-14, "means")
    g = torch.randn_like(want)
    a, b = (torch.autograd.grad(y, x, g)[0] for y in (got, want))
    assert_close(a, b, 1e-14, "gradient")


def test_half_precision_adds_in_single():
    x = torch.ones(1, 20, 20, 1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        mean = CellMean((20, 20), 1)(x)
    assert mean.dtype == torch.bfloat16 and mean.item() == 1.0


def test_no_cells_are_refused():
    with pytest.raises(ValueError, match="0 cells"):
        CellMean((4, 4), 0)
