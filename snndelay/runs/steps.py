"""The steps of an epoch, each one update of the network: which are left, what they have counted,
and what becomes of those whose loss or gradient is NaN or infinite.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..data.seeds import generator
from ..errors import NonFiniteError
from ..gradients import backward
from ..graphs import GraphedStep, Totals, totals_of
from ..step_graphs import StepGraphs
from ..weights import not_finite
from .machine import seed_step
from .report import Report
from .session import Session, uses_graphs
from .settings import Settings
from .together import in_step

MOST_BAD = 10  # steps in a row that are skipped before a run ends
Figures = Callable[[Session], tuple[float, float, np.ndarray]]


def steps_left(
    session: Session, batches: Iterable, report: Report, figures: Figures
) -> Iterator[Any]:
    """The batches that are left of an epoch; `session.step` is the number of each. Whoever asks for
    the next one has made the step of the one before, which is counted, reported and, if it is
    time, saved. figures: loss, accuracy and spike rates of the epoch so far."""
    for batch in in_step(session.ranks, batches):
        yield batch
        session.step += 1
        report.step(session.epoch, partial(figures, session))
        if session.after_step is not None:
            session.after_step(session)


def take_step(
    session: Session, settings: Settings, gradients: Callable, *inputs: Tensor | None
) -> None:
    """The update of the weights on batch `session.step`, which on CUDA waits for nothing. One whose
    loss or gradient is NaN or infinite changes neither weights nor moments nor running statistics,
    and is counted.

    gradients: (*inputs) -> (loss, statistics), see `GraphedStep`; the first step's is kept.
    Raises NonFiniteError after MOST_BAD such steps in a row; on CUDA `totals` does.
    """
    train = settings.training
    if session.update is None:
        graph = uses_graphs(settings, session.device)
        if graph and train.temporal_gradient == "sltt":
            session.steps, graph = StepGraphs(session.net, graph=True), False
        how: dict[str, Any] = dict(gradients=gradients, grad_clip=train.grad_clip, graph=graph)
        how |= dict(ranks=session.ranks)
        session.update = GraphedStep(session.net, session.optimizers, **how)
        if session.counted is not None:
            session.update.load_state_dict(session.counted)
    if session.step == 0:
        session.update.reset()
    session.again = partial(gradients, *inputs)
    seed_step(train.seed, session.epoch, session.step, session.ranks.rank)
    session.update(*inputs)
    if session.device.type == "cpu":  # there it costs nothing to look
        totals(session)


def backpropagate(
    session: Session,
    settings: Settings,
    run: Callable,
    sequences: Sequence[Tensor | None],
    others: Sequence[Tensor],
) -> tuple[Tensor, list[Any]]:
    """The gradients of a step as the settings say: loss, and what `run` returned beside it; `run`,
    `sequences` and `others` as `gradients.backward` takes them."""
    train = settings.training
    return backward(
        run,
        sequences,
        others,
        gradient=train.temporal_gradient,
        backward_steps=train.backward_steps if train.temporal_gradient == "sltt" else None,
        generator=generator("sltt_steps", train.seed, session.epoch, session.step),
        scaler=session.ranks,
        graphs=session.steps,
    )


def totals(session: Session) -> Totals:
    """What the steps of this epoch have counted; waits for the device.

    Raises NonFiniteError after MOST_BAD steps in a row whose loss or gradient is NaN or infinite.
    """
    if session.update is None:  # all of them were made before this process
        assert session.counted is not None
        return totals_of(session.counted)
    found = session.update.totals()
    if found.bad_in_a_row < MOST_BAD:
        return found
    assert found.first_bad is not None
    step, loss, norm = found.first_bad
    what = f"the norm of the gradient is {norm}" if np.isfinite(loss) else f"the loss is {loss}"
    raise NonFiniteError(
        f"{MOST_BAD} steps in a row are not finite: {what} in epoch {session.epoch + 1}, step "
        f"{step + 1} ({_first_non_finite(session)}): lower the learning rate, or set or lower "
        "--grad-clip, with --resume too"
    )


def _first_non_finite(session: Session) -> str:
    """Name of the first tensor of the last step that is NaN or infinite, in the order in which a
    step makes them: what it is given, what the modules put out, gradients."""

    found: list[str | None] = []

    def look(name: str, module: nn.Module, _: Any, out: Any) -> None:
        parts = out if isinstance(out, (tuple, list)) else (out,)
        what = f"output of {name or type(module).__name__}"
        found.append(not_finite((what, part) for part in parts))

    assert session.again is not None
    net, given = session.net, session.again.args
    found.append(not_finite((f"input {i}", x) for i, x in enumerate(given)))
    kept = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    found.append(not_finite((f"value {name}", x) for name, x in kept.items()))
    if not any(found):
        hooks = [m.register_forward_hook(partial(look, name)) for name, m in net.named_modules()]
        net.zero_grad()
        session.again()
        for hook in hooks:
            hook.remove()
        named = net.named_parameters()
        found.append(not_finite((f"gradient of {name}", p.grad) for name, p in named))
    first = next(filter(None, found), None)
    return f"first of all {first}" if first else "in which tensor, a second look does not show"
