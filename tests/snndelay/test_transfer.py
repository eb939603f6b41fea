"""Transfer: each term against its equation, the published figures, chunks, autocast, ablations.

Legend: T time steps, B batch, F features, N classes.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from snndelay.errors import ConfigError
from snndelay.transfer import (
    alignment,
    domain_loss,
    linear_cka,
    step_loss,
    transfer_loss,
    transfer_weights,
)

from ..conftest import assert_close

T, B, N, FEATURES = 10, 6, 5, 40


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype)


@pytest.fixture
def pair():
    """Outputs of both heads, potentials of both domains, labels, coefficients, in float64."""
    double = torch.float64
    return (
        random(T, B, N, dtype=double).requires_grad_(),
        random(T, B, N, dtype=double).requires_grad_(),
        random(T, B, FEATURES, dtype=double).requires_grad_(),
        random(T, B, FEATURES, dtype=double).requires_grad_(),
        torch.randint(N, (B,)),
        random(T, dtype=double).requires_grad_(),
    )


def cka_by_features(x_BF, y_BF):
    """The definition with (F, F) matrices, as it is written."""
    x_BF, y_BF = x_BF - x_BF.mean(0), y_BF - y_BF.mean(0)
    cross = (y_BF.T @ x_BF).square().sum()
    return cross / ((x_BF.T @ x_BF).norm() * (y_BF.T @ y_BF).norm() + 1e-7)


@pytest.mark.parametrize(("rows", "columns"), [(2, 1), (3, 300), (63, 63), (120, 5)])
def test_cka_is_its_definition(rows, columns):
    x_BF, y_BF = random(rows, columns), random(rows, columns + 2)
    y_BF[:, :1] += 2 * x_BF[:, :1]
    want = cka_by_features(x_BF.double(), y_BF.double())
    assert_close(linear_cka(x_BF, y_BF), want, 1e-4, "CKA")


def test_cka_of_itself_is_one_whatever_rotation_scale_and_shift():
    x_BF = random(30, FEATURES, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(random(FEATURES, FEATURES, dtype=torch.float64))
    for y_BF in (x_BF, x_BF @ rotation, 3 * x_BF, -0.1 * x_BF, x_BF + random(FEATURES)):
        assert_close(linear_cka(x_BF, y_BF), torch.tensor(1.0), 1e-6, "CKA(X, Y)")


def test_cka_of_unrelated_features_is_low_and_within_bounds():
    cka = torch.stack([linear_cka(random(400, 3), random(400, 4)) for _ in range(20)])
    assert ((cka >= 0) & (cka < 0.05)).all(), f"CKA {cka.min():.3g} to {cka.max():.3g}"


def test_silent_features_have_cka_zero_and_finite_gradients():
    silent_BF = torch.zeros(4, 7, requires_grad=True)
    other_BF = random(4, 7).requires_grad_()
    cka = linear_cka(silent_BF, other_BF)
    cka.backward()
    assert cka == 0
    assert silent_BF.grad.isfinite().all() and other_BF.grad.isfinite().all()


def test_cka_of_low_precision_is_computed_in_float32():
    x_BF, y_BF = random(16, 300).bfloat16(), random(16, 300).bfloat16()
    want = linear_cka(x_BF.double(), y_BF.double())
    with torch.autocast("cpu", torch.bfloat16):
        got = linear_cka(x_BF, y_BF)
    assert got.dtype == torch.float32
    assert_close(got, want, 1e-5, "CKA under autocast")


@pytest.mark.parametrize("function", [linear_cka, alignment])
def test_a_batch_of_one_is_refused(function):
    x = random(1, 3) if function is linear_cka else random(T, 1, 3)
    with pytest.raises(ConfigError, match="batch of two or more"):
        function(x, x)


def test_alignment_is_the_cka_of_every_step_and_flattens_planes():
    static, event = random(T, B, 3, 4, 5), random(T, B, 3, 4, 5)
    last = [x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) for x in (static, event)]
    pairs = zip(static, event, strict=True)
    want = torch.stack([cka_by_features(x.flatten(1), y.flatten(1)) for x, y in pairs])
    assert_close(alignment(static, event), want, 1e-4, "CKA of every step")
    assert_close(alignment(*last), want, 1e-4, "CKA of every step, channels last")


def test_domain_loss_is_its_equation():
    cka_T, weight_T = torch.tensor([1.0, 0.25, 0.0]), torch.tensor([0.3, 0.2, 0.5])
    assert_close(domain_loss(cka_T, weight_T), torch.tensor(0.65 / 3), 1e-6, "weighted")
    assert_close(domain_loss(cka_T), torch.tensor(1.75 / 3), 1e-6, "not weighted")


def test_step_loss_is_the_mean_over_steps_of_cross_entropy_and_regulariser(pair):
    o_TBN, label_B = pair[0], pair[4]
    want = 0.0
    for o_BN in o_TBN:
        want += 0.95 * F.cross_entropy(o_BN, label_B) / T
        want += 0.05 * F.mse_loss(o_BN, torch.full_like(o_BN, 0.4)) / T
    assert_close(step_loss(o_TBN, label_B, 0.05, 0.4), want, 1e-12, "step loss")


def test_step_loss_draws_to_one_hot_outputs(pair):
    o_TBN, label_B = pair[0], pair[4]
    wanted = F.one_hot(label_B, N).to(o_TBN.dtype)
    want = sum(0.95 * F.cross_entropy(o, label_B) + 0.05 * F.mse_loss(o, wanted) for o in o_TBN) / T
    assert_close(step_loss(o_TBN, label_B, 0.05, "one-hot"), want, 1e-12, "step loss")
    with pytest.raises(ConfigError, match="choose one-hot or a number"):
        step_loss(o_TBN, label_B, 0.05, "onehot")


def test_step_loss_of_bfloat16_is_float32():
    o_TBN, label_B = random(T, B, N).bfloat16(), torch.randint(N, (B,))
    got = step_loss(o_TBN, label_B)
    assert got.dtype == torch.float32
    assert_close(got, step_loss(o_TBN.double(), label_B), 1e-6, "step loss of bfloat16")


def test_coefficients_start_at_the_published_figure():
    domain_T, ce_T, mse_T = transfer_weights(torch.ones(T))
    assert_close(domain_T, torch.full((T,), 0.731), 1e-4, "sigmoid(1)")
    assert_close(domain_T + ce_T, torch.ones(T), 1e-6, "sum of both weights")
    assert torch.equal(ce_T, mse_T)


def test_coefficients_fixed_and_off():
    domain_T, ce_T, mse_T = transfer_weights(torch.ones(3), 0.25)
    assert domain_T.tolist() == [0.25] * 3 and ce_T.tolist() == [0.75] * 3
    assert_close(mse_T, torch.full((3,), 0.26894), 1e-4, "1 - sigmoid(1)")
    assert transfer_weights(torch.ones(3), "off") == (None, None, None)


@pytest.mark.parametrize("coefficient", ["fixed", -0.1, 1.5, math.nan, "0.5"])
def test_an_unknown_coefficient_is_refused(coefficient):
    with pytest.raises(ConfigError, match="choose learned, off or a number"):
        transfer_weights(torch.ones(3), coefficient)


def test_transfer_loss_is_the_published_sum(pair):
    o_static, o_event, u_static, u_event, label_B, eta_T = pair
    got = transfer_loss(*pair)
    ce = [F.cross_entropy(o, label_B) for o in o_event]
    mse = [F.mse_loss(o, torch.full_like(o, 0.5)) for o in o_event]
    share = 1 / (1 + (-eta_T).exp())
    event = sum((1 - share[t]) * (0.999 * ce[t] + 0.001 * mse[t]) / T for t in range(T))
    cka = [cka_by_features(u_static[t], u_event[t]) for t in range(T)]
    domain = sum(share[t] * (1 - cka[t]) / T for t in range(T))
    want = step_loss(o_static, label_B) + event + 0.5 * domain
    assert_close(got.event, event, 1e-12, "event")
    assert_close(got.domain, domain, 1e-9, "domain")
    assert_close(got.total, want, 1e-9, "total")
    assert not got.cka_T.requires_grad
    grads = zip(
        torch.autograd.grad(got.total, [o_static, o_event, u_static, u_event, eta_T]),
        torch.autograd.grad(want, [o_static, o_event, u_static, u_event, eta_T]),
        strict=True,
    )
    for a, b in grads:
        assert b.norm() > 0
        assert_close(a, b, 1e-8, "gradient of the total")


def test_a_fixed_coefficient_leaves_the_squared_error_its_learned_weight(pair):
    _, o_event, u_static, u_event, label_B, eta_T = pair
    got, share, want = transfer_loss(*pair, coefficient=0.3), 1 / (1 + (-eta_T).exp()), 0.0
    for t, o in enumerate(o_event):
        want += 0.7 * 0.999 * F.cross_entropy(o, label_B) / T
        want += (1 - share[t]) * 0.001 * F.mse_loss(o, torch.full_like(o, 0.5)) / T
    assert_close(got.event, want, 1e-12, "event")
    cka = [cka_by_features(u_static[t], u_event[t]) for t in range(T)]
    assert_close(got.domain, sum(0.3 * (1 - c) / T for c in cka), 1e-9, "domain")
    grads = (torch.autograd.grad(loss, eta_T)[0] for loss in (got.total, want))
    assert_close(*grads, 1e-9, "gradient of the coefficients")


@pytest.mark.parametrize("coefficient", ["learned", 0.3, "off"])
@pytest.mark.parametrize("size", [1, 4])
def test_shares_of_chunks_sum_to_the_whole(pair, coefficient, size):
    *tensors, label_B, eta_T = pair
    whole = transfer_loss(*pair, coefficient=coefficient)
    parts = [
        transfer_loss(
            *(x[t : t + size] for x in tensors), label_B, eta_T[t : t + size],
            coefficient=coefficient, n_steps=T,
        )
        for t in range(0, T, size)
    ]  # fmt: skip
    for name in ("total", "static", "event", "domain"):
        assert_close(sum(getattr(p, name) for p in parts), getattr(whole, name), 1e-12, name)
    assert_close(torch.cat([p.cka_T for p in parts]), whole.cka_T, 1e-12, "CKA")


def test_weights_of_other_steps_are_refused(pair):
    *tensors, label_B, eta_T = pair
    with pytest.raises(ValueError, match="10 weights for 1 steps"):
        transfer_loss(*(x[:1] for x in tensors), label_B, eta_T, n_steps=T)


def test_without_transfer_only_events_count(pair):
    o_event, label_B = pair[1], pair[4]
    got = transfer_loss(None, o_event, None, None, label_B, None, transfer=False)
    assert_close(got.total, step_loss(o_event, label_B), 1e-12, "event only")
    assert got.static == 0 and got.domain == 0 and got.cka_T is None


def test_domain_weight_scales_only_the_alignment(pair):
    one, two = (transfer_loss(*pair, domain_weight=w) for w in (0.0, 2.0))
    assert_close(two.total - one.total, 2 * one.domain, 1e-9, "domain weight")
