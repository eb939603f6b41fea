"""Which backend runs an op. ``auto`` decides once per op and device and logs one line; nothing
falls back in silence.
"""

import logging
from collections.abc import Callable
from functools import cache

BACKENDS = ("auto", "reference", "triton", "cpu")
log = logging.getLogger("snndelay")


class BackendError(RuntimeError):
    """The backend that was asked for cannot run this op here; the message says why."""


NEEDS = {"triton": "cuda", "cpu": "cpu"}


@cache
def choose(
    op: str, available: tuple[str, ...], backend: str, device: str, refusals: tuple = ()
) -> str:
    """Name of the backend that runs ``op``.

    Args:
        op: name of the op, for messages.
        available: backends that implement it, fastest first.
        backend: one of ``BACKENDS``.
        device: type of the device that holds the tensors ("cpu", "cuda").
        refusals: pairs (backend, why it cannot run this call or None).

    Raises:
        BackendError: ``backend`` is unknown, not implemented for the op, or cannot run this call.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    why_not = {b: why for b, why in refusals if why}
    for b in available:
        if NEEDS.get(b, device) != device:
            why_not[b] = f"it needs tensors on {NEEDS[b]}, and these are on {device}"
    if backend == "auto":
        chosen = next(b for b in available if b not in why_not)
        passed_over = "; ".join(f"not {b}: {why}" for b, why in why_not.items())
        log.info("%s on %s runs on backend %s. %s", op, device, chosen, passed_over)
        return chosen
    if backend not in available:
        raise BackendError(
            f"{op} has no backend {backend!r} yet; choose one of auto, {', '.join(available)}"
        )
    if backend in why_not:
        raise BackendError(f"{op} cannot run on backend {backend!r}: {why_not[backend]}")
    return backend


def dispatch(
    op: str, implementations: dict[str, Callable], backend: str, device: str, **refusals: str | None
) -> Callable:
    """The implementation of ``op`` that ``backend`` stands for.

    ``implementations`` lists the fastest first and ends with the reference, which runs everything;
    ``refusals`` says per backend why it cannot run this call (None: it can).
    """
    return implementations[
        choose(op, tuple(implementations), backend, device, tuple(refusals.items()))
    ]
