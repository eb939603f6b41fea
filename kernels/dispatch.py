"""Which backend runs an op. ``auto`` logs one line for each kind of call; nothing falls back in
silence.
"""

import logging
import os
from collections.abc import Callable
from functools import cache

import torch

from ..errors import BackendError

BACKENDS = ("auto", "reference", "fft", "triton", "cpu")
TRANSFORMED = ("delay_taps", "delay_conv", "delay_linear")  # torch.func can: they have no surrogate
log = logging.getLogger("snndelay")


def why_not_dtype(dtype: torch.dtype) -> str | None:
    """Why a compiled kernel cannot take tensors of this type; None if it can."""
    if dtype in (torch.float32, torch.bfloat16, torch.float16):
        return None
    return f"it computes in float32, which is not enough for {dtype}"


NEEDS = {"triton": "cuda", "cpu": "cpu"}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton then runs on CPU tensors


def choose(
    op: str, available: tuple[str, ...], backend: str, device: str, refusals: tuple = ()
) -> str:
    """Name of the backend that runs ``op``.

    Args:
        op: name of the op, for messages.
        available: backends that implement it, fastest first.
        backend: one of ``BACKENDS``; ``fft`` is a way to compute delays, and an op without any
            runs as under ``auto``.
        device: type of the device that holds the tensors ("cpu", "cuda").
        refusals: pairs (backend, why it cannot run this call or None).

    Raises:
        BackendError: ``backend`` is unknown, not implemented for the op, or cannot run this call.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "fft" and backend not in available:
        backend = "auto"
    why_not = {b: why for b, why in refusals if why}
    for b in available:
        if NEEDS.get(b, device) == device:
            continue
        if b != "triton" or not INTERPRETED:
            why_not[b] = f"it needs tensors on {NEEDS[b]}, and these are on {device}"
        elif backend == "auto":
            why_not[b] = "its interpreter is for tests"
    if backend == "auto":
        chosen = next(b for b in available if b not in why_not)
        if not torch.compiler.is_compiling():  # a graph has no log
            later = [b for b in available[available.index(chosen) + 1 :] if b != "reference"]
            reasons = dict.fromkeys(later, "slower by the cost model for these sizes") | why_not
            passed_over = "; ".join(f"not {b}: {why}" for b, why in reasons.items())
            log.info("%s on %s runs on backend %s. %s", op, device, chosen, passed_over)
        return chosen
    if backend not in available:
        raise BackendError(
            f"{op} has no backend {backend!r} yet; choose one of auto, {', '.join(available)}"
        )
    if backend in why_not:
        raise BackendError(f"{op} cannot run on backend {backend!r}: {why_not[backend]}")
    return backend


_choose_once = cache(choose)


def decide(
    op: str, available: tuple[str, ...], backend: str, device: str, **refusals: str | None
) -> str:
    """``choose``, remembered; ``refusals`` says per backend why it cannot run this call (None: it
    can).
    """
    if torch.compiler.is_compiling():  # dynamo wants no caches
        return choose(op, available, backend, device, tuple(refusals.items()))
    if torch._C._functorch.peek_interpreter_stack() is not None:
        if op not in TRANSFORMED:
            raise BackendError(
                f"{op} cannot run inside torch.func's grad, vmap or jvp: use torch.autograd on "
                "torch.func.functional_call, which works, and a loop in place of vmap"
            )
        why_not = "torch.func transforms plain PyTorch alone"
        refusals |= {b: why_not for b in available if b != "reference"}
    return _choose_once(op, available, backend, device, tuple(refusals.items()))


def dispatch(
    op: str, implementations: dict[str, Callable], backend: str, device: str, **refusals: str | None
) -> Callable:
    """The implementation of ``op`` that ``backend`` stands for.

    ``implementations`` lists the fastest first and ends with the reference, which runs everything;
    ``refusals`` as ``decide`` takes them.
    """
    return implementations[decide(op, tuple(implementations), backend, device, **refusals)]
