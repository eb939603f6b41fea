"""Ops as torch's dispatcher knows them, with as little between a call and its kernel as it allows.

``torch.library.custom_op`` with a gradient costs 280 us of host time for a forward and backward
pass of a scan, what stands here 80 us (torch 2.13, one core); a layer on a GPU has three ops, and
meanwhile the GPU waits. So an op is two entries of the dispatcher: ``NAME_plain`` runs the kernel,
and ``NAME`` also differentiates, which a trace of torch.compile keeps whole. An eager call takes no
detour by the latter: it runs the ``torch.autograd.Function`` around ``NAME_plain``, or without
gradients just that.
"""

from collections.abc import Callable, Sequence
from types import new_class
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_fake

NAMESPACE = "snndelay"
RUNS: dict[str, Callable] = {}  # what each entry of the dispatcher runs
_libraries: dict[str, Library] = {}  # whoever drops a library drops its ops


def _enter(schema: str, run: Callable, fake: Callable) -> Callable:
    name = schema.partition("(")[0]
    _libraries.pop(name, None)
    _libraries[name] = library = Library(NAMESPACE, "FRAGMENT")
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, run, "CompositeExplicitAutograd")
    register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    RUNS[name] = run
    return getattr(getattr(torch.ops, NAMESPACE), name).default


class _Once(torch.autograd.Function):
    """Gradients that depend on tensors in a way that nobody has written down: whoever
    differentiates them is told so (``once_differentiable`` forgets what they depend on).
    """

    @staticmethod
    def attach(name: str, found: Sequence[Tensor | None], tensors: Sequence[Tensor | None]):
        attached = iter(_Once.apply(name, [g for g in found if g is not None], *tensors))
        return [g if g is None else next(attached) for g in found]

    @staticmethod
    def forward(ctx, name, found, *_):
        ctx.name = name
        return tuple(found)

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(f"{NAMESPACE}::{ctx.name} can be differentiated only once")


def register(schema: str, run: Callable, fake: Callable) -> Callable:
    """An op without a gradient.

    Args:
        schema: name, arguments and results in the words of ``torch.library``, without defaults.
        run: the function itself, given the arguments in this order.
        fake: the same for tensors without data.

    Returns:
        The op. Where its name was registered before, as by ``importlib.reload``, it replaces that.
    """
    return _enter(schema, run, fake)


def register_differentiable(
    schema: str,
    run: Callable,
    fake: Callable,
    *,
    tensors: Callable[..., Sequence[Tensor | None]],
    save: Callable[[Any, tuple, Any], None],
    gradients: Callable[..., Sequence[Tensor | None]],
) -> Callable:
    """An op that can be differentiated once.

    Args:
        schema, run, fake: see ``register``.
        tensors: those of the arguments that may need a gradient, in any order.
        save: ``save(ctx, arguments, results)`` keeps in ``ctx``, the context of a
            ``torch.autograd.Function``, what the gradients are computed from.
        gradients: ``gradients(ctx, *gradients of the results)``, one for each of ``tensors``;
            ``ctx.needs_input_grad`` begins with an entry for each of these.

    Returns:
        What calls the op.
    """
    name, _, signature = schema.partition("(")
    listed = signature.endswith("-> Tensor[]")
    plain = _enter(f"{name}_plain({signature}", run, fake)

    def forward(ctx, *given):  # the tensors, so that autograd sees them, and all arguments
        results = plain(*given[-1])
        save(ctx, given[-1], results)
        return tuple(results) if listed else results

    def backward(ctx, *given):
        if not torch.is_grad_enabled():
            return *gradients(ctx, *given), None
        with torch.no_grad():
            found = gradients(ctx, *given)
        return *_Once.attach(name, found, (*given, *ctx.saved_tensors)), None

    # its name when it is made is that of the node in errors and profiles
    methods = dict(forward=staticmethod(forward), backward=staticmethod(backward))
    function = new_class(name, (torch.autograd.Function,), {}, lambda body: body.update(methods))

    def eager(*arguments):
        if torch.is_grad_enabled():
            given = tensors(*arguments)
            if any(t is not None and t.requires_grad for t in given):
                return function.apply(*given, arguments)
        return plain(*arguments)

    def differentiated(*arguments):
        results = eager(*arguments)
        return list(results) if listed else results

    op = _enter(schema, run, fake)
    _libraries[name].impl(name, differentiated, "Autograd")
    return lambda *arguments: (op if torch.compiler.is_compiling() else eager)(*arguments)
