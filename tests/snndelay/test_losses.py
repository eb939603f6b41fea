import pytest
import torch
import torch.nn.functional as F

from snndelay.losses import LOSSES


def test_losses_by_hand():
    v, y = torch.randn(7, 3, 5), torch.tensor([0, 4, 2])
    m = v.softmax(-1).sum(0)
    want = -(m - m.exp().sum(-1, keepdim=True).log())[range(3), y].mean()
    assert LOSSES["softmax_sum"](v, y) == pytest.approx(want.item(), rel=1e-5)
    assert LOSSES["logit_sum"](v, y) == pytest.approx(F.cross_entropy(v.mean(0), y).item())
    for name, loss in LOSSES.items():
        assert loss.score(v).shape == (3, 5) and loss(v, y, 0.1).shape == (), name
    assert torch.equal(LOSSES["softmax_sum"].score(v), m)
