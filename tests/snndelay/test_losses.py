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


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixed_target_is_one_label_where_it_is_whole_and_lies_between(name):
    torch.manual_seed(0)
    v, label = torch.rand(7, 5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    one, other = F.one_hot(label, 4).double(), F.one_hot((label + 1) % 4, 4).double()
    loss = LOSSES[name]
    for smoothing in (0.0, 0.1):
        assert loss(v, one, smoothing) == pytest.approx(loss(v, label, smoothing).item(), rel=1e-12)
    both = loss(v, 0.3 * one + 0.7 * other)
    ends = 0.3 * loss(v, one) + 0.7 * loss(v, other)
    if name == "spike_count_mse":  # a square: less by the spread of the target
        ends = ends - (0.3 * 0.7 * (one - other) ** 2).mean()
    assert both.item() == pytest.approx(ends.item(), rel=1e-12)
