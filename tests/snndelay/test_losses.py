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
    assert torch.equal(LOSSES["logit_max"].score(v), v.max(0).values)
    assert LOSSES["logit_max"](v, y) == pytest.approx(F.cross_entropy(v.max(0).values, y).item())


def test_losses_of_spikes_by_hand():
    """Two samples, three classes, four steps."""
    counts = torch.tensor([[4.0, 0.0, 1.0], [2.0, 2.0, 0.0]])
    s = (torch.arange(4).view(4, 1, 1) < counts).float().requires_grad_()
    y = torch.tensor([0, 1])
    mse, rates = LOSSES["spike_count_mse"], LOSSES["rate_cross_entropy"]
    assert torch.equal(mse.score(s), counts) and torch.equal(rates.score(s), counts)
    assert mse(s, y).item() == pytest.approx((0 + 0 + 1 / 16 + 1 / 4 + 1 / 4 + 0) / 6)
    smooth = [(1 - 0.8) ** 2, 0.1**2, 0.15**2, 0.4**2, (0.5 - 0.8) ** 2, 0.1**2]
    assert mse(s, y, 0.3).item() == pytest.approx(sum(smooth) / 6)
    assert rates(s, y).item() == pytest.approx(F.cross_entropy(counts / 4, y).item())
    (g,) = torch.autograd.grad(mse(s, y), s)
    assert g[:, 1, 1].tolist() == pytest.approx([2 * (0.5 - 1) / 4 / 6] * 4)
