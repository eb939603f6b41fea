"""What static images teach about event recordings: alignment of the two domains, and the losses.

Legend: T time steps (all of them, or the steps of a chunk), B batch, F features, N classes. Static
and event tensors hold the same B pairs in the same order: sample b of both shows the same class.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError
from .kernels.precision import exact
from .losses import one_hot

COEFFICIENTS = ("learned", "off")  # beside these, a number from 0 to 1
TARGETS = ("one-hot",)  # of the squared error, beside numbers


class TransferLoss(NamedTuple):
    """The loss of a transfer step and its parts, all float32 or float64.

    ``total`` = ``static`` + ``event`` + domain_weight * ``domain``, each of shape (). ``cka_T``:
    alignment of every step, (T,), in [0, 1], detached; None where the transfer is off.
    """

    total: Tensor
    static: Tensor
    event: Tensor
    domain: Tensor
    cka_T: Tensor | None


def linear_cka(x_BF: Tensor, y_BF: Tensor) -> Tensor:
    """How alike two representations of the same B pairs are, from 0 (unrelated) to 1 (alike up to
    rotation, scale and shift): linear centred kernel alignment
    ``||Y'X||^2 / (||X'X|| ||Y'Y|| + 1e-7)``, by the (B, B) Gram matrices, which are smaller.

    Args:
        x_BF, y_BF: features, (..., B, F) and (..., B, F2), B >= 2, floating. Computed in float32 or
            better, under autocast too.

    Returns:
        (...), float32 or float64.

    Raises:
        ConfigError: a batch of one, which is nothing once it is centred.

    Source: He et al. 2024 (arXiv 2303.13077), equation of L_d; Kornblith et al. 2019 (arXiv
    1905.00414), equation 4.
    """
    if x_BF.shape[-2] < 2:
        raise ConfigError("CKA needs a batch of two or more: raise batch_size or add samples")
    with exact(x_BF):
        x_BB, y_BB = _gram(x_BF), _gram(y_BF)
        norms = x_BB.norm(dim=(-2, -1)) * y_BB.norm(dim=(-2, -1))
        return (x_BB * y_BB).sum((-2, -1)) / (norms + 1e-7)


def alignment(u_static_TBF: Tensor, u_event_TBF: Tensor) -> Tensor:
    """CKA of both domains at every step, (T, B, ...) twice -> (T,); further dimensions than three,
    (T, B, C, H, W) say, count as features. Errors and source as ``linear_cka``.
    """
    return linear_cka(u_static_TBF.flatten(2), u_event_TBF.flatten(2))


def domain_loss(
    cka_T: Tensor, weight_T: Tensor | None = None, n_steps: int | None = None
) -> Tensor:
    """Distance of the domains, shape (): ``sum_t weight_t (1 - |CKA_t|) / n_steps``.

    Args:
        cka_T, weight_T: (T,), floating; no weights: 1 each.
        n_steps: steps of the whole sequence, where this is a chunk of it; None: T.

    Source: He et al. 2024 (arXiv 2303.13077), L_d.
    """
    return _share(1 - cka_T.abs(), weight_T, n_steps)


def step_loss(
    o_TBN: Tensor,
    label_B: Tensor,
    lam: float = 1e-3,
    target: float | str = 0.5,
    weight_T: Tensor | None = None,
    n_steps: int | None = None,
    mse_weight_T: Tensor | None = None,
) -> Tensor:
    """Loss of every step's own output,
    ``sum_t weight_t ((1 - lam) CE(o_t, label) + lam MSE(o_t, target)) / n_steps``, shape (): every
    step learns to be right alone, and shares of chunks sum to the loss of the whole.

    Args:
        o_TBN: outputs of each step, (T, B, N), floating; computed in float32 or better.
        label_B: classes, (B,), int64.
        lam: share of the squared error, which draws all outputs to ``target``, in [0, 1].
        target: a number for all classes, or ``one-hot``: 1 for the label and 0 for the others.
        weight_T, n_steps: as in ``domain_loss``.
        mse_weight_T: weight of the squared error, (T,), where it has another; None: weight_T.

    Raises:
        ConfigError: an unknown word for the target.

    Source: Deng et al. 2022 (arXiv 2202.11946), equation 11; arXiv 2303.13077 (target 0.5) and
    2302.14311 (target ``one-hot`` on CIFAR10-DVS, 1 on gestures).
    """
    T, B, N = o_TBN.shape
    o_TBN = _precise(o_TBN)
    label = label_B.expand(T, B).flatten()
    ce_T = F.cross_entropy(o_TBN.flatten(0, 1), label, reduction="none").view(T, B).mean(1)
    if isinstance(target, str):
        if target not in TARGETS:
            raise ConfigError(f"target is {target!r}: choose {', '.join(TARGETS)} or a number")
        wanted = one_hot(label_B, N, o_TBN.dtype)
    else:
        wanted = target
    mse_T = (o_TBN - wanted).square().mean((1, 2))
    if mse_weight_T is None or mse_weight_T is weight_T:
        return _share((1 - lam) * ce_T + lam * mse_T, weight_T, n_steps)
    return _share((1 - lam) * ce_T, weight_T, n_steps) + _share(lam * mse_T, mse_weight_T, n_steps)


class Weights(NamedTuple):
    """Weights of every step in the domain loss, and in the cross-entropy and the squared error of
    events, each (T,) or None (all 1)."""

    domain_T: Tensor | None
    ce_T: Tensor | None
    mse_T: Tensor | None


def transfer_weights(eta_T: Tensor, coefficient: str | float = "learned") -> Weights:
    """How much alignment and event loss of every step weigh.

    Args:
        eta_T: learned coefficients of these steps, (T,), 1 at the start.
        coefficient: ``learned``: sigmoid(eta) for the domain and 1 - sigmoid(eta) for both parts of
            the event loss; a number c from 0 to 1: c and 1 - c, so that 1 leaves the cross-entropy
            of events out, while their squared error keeps 1 - sigmoid(eta) with an eta that it
            alone teaches, as in the published code; ``off``: no weights.

    Raises:
        ConfigError: anything else.

    Source: He et al. 2024 (arXiv 2303.13077), spatio-temporal regularisation, and its code.
    """
    if coefficient == "off":
        return Weights(None, None, None)
    learned_T = torch.sigmoid(_precise(eta_T))
    if coefficient == "learned":
        rest_T = 1 - learned_T
        return Weights(learned_T, rest_T, rest_T)
    if isinstance(coefficient, str) or not 0 <= coefficient <= 1:
        choices = ", ".join(COEFFICIENTS)
        raise ConfigError(f"coefficient is {coefficient!r}: choose {choices} or a number 0 to 1")
    fixed_T = torch.full_like(learned_T, coefficient, requires_grad=False)
    return Weights(fixed_T, 1 - fixed_T, 1 - learned_T)


def transfer_loss(
    o_static_TBN: Tensor | None,
    o_event_TBN: Tensor,
    u_static_TBF: Tensor | None,
    u_event_TBF: Tensor | None,
    label_B: Tensor,
    eta_T: Tensor | None,
    *,
    coefficient: str | float = "learned",
    domain_weight: float = 0.5,
    lam: float = 1e-3,
    target: float | str = 0.5,
    n_steps: int | None = None,
    transfer: bool = True,
) -> TransferLoss:
    """The loss of static-to-event transfer ``L = L_static + L_event + domain_weight L_d``.

    Args:
        o_static_TBN, o_event_TBN: outputs of the two heads, (T, B, N).
        u_static_TBF, u_event_TBF: membrane potentials of the last hidden layer, (T, B, ...).
        label_B: class of each pair, (B,), int64.
        eta_T: learned coefficients of *these* steps, (T,), float.
        coefficient: as in ``transfer_weights``.
        lam, target, n_steps: as in ``step_loss``; with ``n_steps`` the losses of chunks sum to that
            of the whole sequence.
        transfer: False: L = L_event without weights; the static tensors and ``eta_T`` may be None.

    Raises:
        ConfigError: a batch of one, or an unknown coefficient.

    Source: He et al. 2024 (arXiv 2303.13077), total loss.
    """
    settings = {"lam": lam, "target": target, "n_steps": n_steps}
    if not transfer:
        event = step_loss(o_event_TBN, label_B, **settings)
        none = torch.zeros_like(event)
        return TransferLoss(event, none, event, none, None)
    weights = transfer_weights(eta_T, coefficient)
    static = step_loss(o_static_TBN, label_B, **settings)
    own = {"weight_T": weights.ce_T, "mse_weight_T": weights.mse_T}
    event = step_loss(o_event_TBN, label_B, **own, **settings)
    cka_T = alignment(u_static_TBF, u_event_TBF)
    domain = domain_loss(cka_T, weights.domain_T, n_steps)
    total = static + event + domain_weight * domain
    return TransferLoss(total, static, event, domain, cka_T.detach())


def _gram(x_BF: Tensor) -> Tensor:
    """Centred Gram matrix, (..., B, F) -> (..., B, B)."""
    x_BF = _precise(x_BF)
    x_BF = x_BF - x_BF.mean(-2, keepdim=True)
    return x_BF @ x_BF.mT


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _share(term_T: Tensor, weight_T: Tensor | None, n_steps: int | None) -> Tensor:
    """Weighted sum over the steps at hand, divided by the steps of the whole."""
    if weight_T is not None:
        if weight_T.shape != term_T.shape:  # would broadcast: one step with the weights of ten
            raise ValueError(f"{len(weight_T)} weights for {len(term_T)} steps: pass eta[steps]")
        term_T = weight_T * term_T
    return term_T.sum() / (n_steps or len(term_T))
