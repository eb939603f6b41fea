"""Registered ops: differentiated once and no more, replaced by a second registration, whole in a
graph, and never more than one step of the dispatcher away from their kernel.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snndelay.kernels import lif, readout, registered


def _square():
    """x^2 under a name of its own; counts its runs."""
    runs = []

    def run(x, factor):
        runs.append(torch.is_grad_enabled())
        return [factor * x * x, x + 1]

    plain = registered.register(
        "test_square_bwd(Tensor g, Tensor x, float factor) -> Tensor",
        lambda g, x, factor: 2 * factor * x * g,
        lambda g, x, factor: torch.empty_like(x),
    )
    op = registered.register_differentiable(
        "test_square(Tensor x, float factor) -> Tensor[]",
        run,
        lambda x, factor: [torch.empty_like(x), torch.empty_like(x)],
        tensors=lambda x, factor: (x,),
        save=lambda ctx, arguments, results: (
            ctx.save_for_backward(arguments[0]),
            setattr(ctx, "factor", arguments[1]),
        ),
        gradients=lambda ctx, g, _: (plain(g, ctx.saved_tensors[0], ctx.factor),),
    )
    return op, runs


def test_values_and_gradients():
    op, runs = _square()
    x = torch.randn(5, requires_grad=True)
    y, after = op(x, 3.0)
    (dx,) = torch.autograd.grad(y, x, torch.arange(5.0))
    assert torch.equal(y, 3 * x * x) and torch.equal(after, x + 1)
    assert torch.equal(dx, 6 * x * torch.arange(5.0))
    assert runs == [False], "the op itself is never recorded"
    assert not op(x.detach(), 3.0)[0].requires_grad
    with torch.no_grad():
        assert not op(x, 3.0)[0].requires_grad


def test_a_node_of_autograd_bears_the_name_of_its_op():
    op, _ = _square()
    assert op(torch.randn(5, requires_grad=True), 3.0)[0].grad_fn.name() == "test_squareBackward"


def test_the_registered_op_is_sound_and_differentiates_too():
    _square()
    op, x = torch.ops.snndelay.test_square.default, torch.randn(5, requires_grad=True)
    torch.library.opcheck(op, (x, 3.0))
    (dx,) = torch.autograd.grad(op(x, 3.0)[0].sum(), x)
    assert torch.equal(dx, 6 * x)


@pytest.mark.parametrize("also", [False, True], ids=["alone", "beside another path"])
def test_a_second_derivative_is_refused(also):
    op, _ = _square()
    x = torch.randn(5, requires_grad=True)
    (dx,) = torch.autograd.grad(op(x, 1.0)[0].sum(), x, create_graph=True)
    assert dx.requires_grad and torch.equal(dx, 2 * x)
    with pytest.raises(RuntimeError, match="test_square can be differentiated only once"):
        torch.autograd.grad(dx.sum() + (x.sum() if also else 0), x)


def test_a_second_derivative_of_a_scan_is_refused():
    x = torch.randn(4, 2, 3, requires_grad=True)
    for y in (readout(x, tau=2.0, backend="cpu"), lif(x, tau=2.0, backend="cpu")[0]):
        (dx,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiated only once"):
            torch.autograd.grad(dx.sum() + x.sum(), x)


def test_a_graph_keeps_the_op():
    op, _ = _square()
    seen = []

    def backend(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    x = torch.randn(5, requires_grad=True)
    y = torch.compile(lambda x: op(x, 2.0)[0], fullgraph=True, backend=backend)(x)
    y.sum().backward()
    assert "snndelay.test_square.default" in seen and torch.equal(x.grad, 4 * x)
    compiled = torch.compile(lambda x: op(x, 2.0)[0] + 1, fullgraph=True, backend="aot_eager")
    (dx,) = torch.autograd.grad(compiled(x).sum(), x)
    assert torch.equal(dx, 4 * x)


def test_a_second_registration_replaces_the_first():
    for factor in (1.0, 2.0):
        op = registered.register(
            "test_twice(Tensor x) -> Tensor", lambda x, f=factor: f * x, torch.empty_like
        )
        assert torch.equal(op(torch.ones(2)), torch.full((2,), factor))
        assert torch.equal(torch.ops.snndelay.test_twice(torch.ones(2)), op(torch.ones(2)))


def test_an_eager_call_is_one_step_of_the_dispatcher():
    class Seen(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            if op.namespace == "snndelay":
                self.names.append(op.overloadpacket.__name__)
            return op(*args, **(kwargs or {}))

    op, _ = _square()
    for needs in (False, True):
        with Seen() as seen:
            op(torch.randn(5, requires_grad=needs), 1.0)
        assert seen.names == ["test_square_plain"]


def test_in_place_ops_are_seen_by_autograd():
    pytest.importorskip("triton")
    from snndelay.kernels.triton.norm import update_running_

    from .helpers import DEVICE

    with torch.device(DEVICE):
        mean, var, count = torch.zeros(3), torch.ones(3), torch.tensor(0)
        kept = (torch.zeros(3), torch.ones(3), count)
    before = [t._version for t in kept]
    update_running_(mean, var, *kept, 0.1, 7)
    assert all(t._version > v for t, v in zip(kept, before, strict=True))
