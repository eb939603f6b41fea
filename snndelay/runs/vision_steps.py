"""The gradients of a step on recordings, alone or beside images.

Legend: T time steps, B batch, N classes.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..transfer import step_loss, transfer_loss
from .machine import autocast
from .session import Session
from .settings import VisionSettings
from .steps import backpropagate


def class_loss(
    settings: VisionSettings, o_TBN: Tensor, label_B: Tensor, n_steps: int | None = None
) -> Tensor:
    """The classification loss of a batch; n_steps: of the whole, where these are some of its
    steps."""
    lam, target = settings.recipe.step_lambda, settings.recipe.step_target
    return step_loss(o_TBN, label_B, lam, target, n_steps=n_steps)


def step_gradients(
    session: Session, settings: VisionSettings, x: Tensor, static: Tensor | None, label_B: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of a step: what it minimises, and sums over its recordings, float64: of the losses
    by name, of the CKA of each step (float32), and of the `correct` ones."""
    B, run = len(label_B), _alone if static is None else _aligned
    step_T = torch.arange(len(x), device=x.device)
    total, outputs = backpropagate(
        session, settings, partial(run, session, settings, len(x)), [x, static, step_T], [label_B]
    )
    o_TBN, losses, cka = zip(*outputs, strict=True)
    o_BN = torch.cat(o_TBN).float().mean(0)
    sums: dict[str, Any] = {}
    for name in losses[0]:
        sums[name] = sum(part[name].double() for part in losses) * B
    if static is not None:
        sums |= {"loss_total": total.double() * B, "cka": torch.cat(cka) * B}
    correct = (o_BN.argmax(-1) == label_B).sum().double()
    return total, sums | {"n": torch.full_like(correct, B), "correct": correct}


def _alone(
    session: Session,
    settings: VisionSettings,
    T: int,
    x: Tensor,
    static: None,
    step_T: Tensor,
    label_B: Tensor,
    state: list | None,
) -> tuple:
    """Some steps of recordings, of images as if they were recordings, as `backward` runs them."""
    net: Any = session.net
    with autocast(session.device, settings.training.amp):
        o_TBN, _, state = net.scan(x, state)
    loss = class_loss(settings, o_TBN, label_B, T)
    return loss, (o_TBN, {"loss": loss}, None), state


def _aligned(
    session: Session,
    settings: VisionSettings,
    T: int,
    x: Tensor,
    static: Tensor,
    step_T: Tensor,
    label_B: Tensor,
    state: tuple | None,
) -> tuple:
    """Some steps of pairs, by the loss of static-to-event transfer, as `backward` runs them."""
    net: Any = session.net
    t, recipe = settings.transfer, settings.recipe
    of_static, of_event = state or (None, None)
    with autocast(session.device, settings.training.amp):
        o_static, u_static, of_static = net.scan(static, of_static, head="static", potentials=True)
        o_event, u_event, of_event = net.scan(x, of_event, potentials=True)
    # CKA is of all pairs of a batch, wherever they are
    u_static, u_event = (session.ranks.gathered(u_TBF, 1) for u_TBF in (u_static, u_event))
    parts = transfer_loss(
        o_static, o_event, u_static, u_event, label_B, net.coefficient.index_select(0, step_T),
        coefficient=t.coefficient, domain_weight=t.domain_weight, lam=recipe.step_lambda,
        target=recipe.step_target, n_steps=T,
    )  # fmt: skip
    loss = class_loss(settings, o_event.detach(), label_B, T)
    losses = {"loss": loss, "loss_static": parts.static, "loss_domain": parts.domain}
    return parts.total, (o_event, losses, parts.cka_T), (of_static, of_event)
