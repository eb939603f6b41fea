"""One time step as a graph: the same gradients, losses, outputs and states as without."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from snndelay import ConvNet, DelayNet, GraphedStep, StepGraphs, backward, parameter_groups
from snndelay.errors import BackendError
from snndelay.transfer import transfer_loss

from ..helpers_replay import as_on_a_gpu

B, N = 3, 4
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
KINDS = ("conv", "delay", "transfer")


def net_of(kind: str, device: str):
    torch.manual_seed(0)
    if kind == "delay":
        net = DelayNet(6, N, 8, max_delay_steps=3, padding="causal", neuron="adlif", dropout=0.3)
    else:
        net = ConvNet(
            "small", N, (8, 8), 5, neuron="plif", dropout=0.2, max_delay_steps=2,
            two_heads=kind == "transfer",
        )  # fmt: skip
    return net.to(device)


def run_of(kind: str, net, T: int):
    """The `run` of `backward`."""

    def aligned(x, static, step_T, label_B, state):
        a, b = state or (None, None)
        o_static, u_static, a = net.scan(static, a, head="static", potentials=True)
        o_event, u_event, b = net.scan(x, b, potentials=True)
        eta_T = net.coefficient.index_select(0, step_T)
        parts = transfer_loss(o_static, o_event, u_static, u_event, label_B, eta_T, n_steps=T)
        return parts.total, {"o": o_event, "cka": parts.cka_T, "none": None}, (a, b)

    def alone(x, static, step_T, label_B, state):
        o_TBN, *_, state = net.scan(x, state)
        loss = sum(F.cross_entropy(o_BN, label_B) for o_BN in o_TBN) / T
        return loss, {"o": o_TBN}, state

    return aligned if kind == "transfer" else alone


def batches(kind: str, device: str) -> Iterator[tuple[list, list]]:
    for i in range(6):
        source, T = torch.Generator().manual_seed(i), 5 - i % 2
        size = (6,) if kind == "delay" else (2, 8, 8)
        x, static = (torch.rand(T, B, *size, generator=source).mul(2).to(device) for _ in range(2))
        label_B = torch.randint(N, (B,), generator=source).to(device)
        static = static if kind == "transfer" else None
        yield [x, static, torch.arange(T, device=device)], [label_B]


def trained(kind: str, graph: bool, device: str, K: int | None, whole: bool) -> dict:
    """Everything after some steps: `whole` those of GraphedStep, else of a plain loop whose
    gradients add up over two batches."""
    net = net_of(kind, device)
    adam = torch.optim.Adam(parameter_groups(net, 1e-2, 0.1), weight_decay=1e-3)
    graphs, draws = StepGraphs(net, graph=graph), np.random.default_rng(0)
    how = dict(gradient="sltt", backward_steps=K, generator=draws, graphs=graphs)
    kept: list[torch.Tensor] = []

    def gradients(x, static, step_T, label_B):
        run = run_of(kind, net, len(x))
        loss, outputs = backward(run, [x, static, step_T], [label_B], **how)
        kept.extend(out["o"] for out in outputs)
        return loss, {"loss": loss}

    step = GraphedStep(net, adam, gradients=gradients, graph=False)
    for i, (sequences, others) in enumerate(batches(kind, device)):
        torch.manual_seed(i)
        if whole:
            kept.append(step(*sequences, *others))
            continue
        kept.append(gradients(*sequences, *others)[0])
        if i % 2:
            adam.step()
            adam.zero_grad(set_to_none=i > 2)
    assert (graphs.n_graphs > 0) is graph
    found = {name: t.clone() for name, t in net.state_dict().items()}
    moments = [s[k] for s in adam.state.values() for k in ("exp_avg", "exp_avg_sq")]
    return found | {f"moment {i}": t for i, t in enumerate(moments)} | dict(enumerate(kept))


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, a in one.items():
        assert torch.equal(a, other[name]), f"{name} differs: {(a - other[name]).abs().max()}"


@pytest.mark.parametrize("whole", [True, False], ids=["GraphedStep", "plain loop"])
@pytest.mark.parametrize("K", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_equal_eager_ones(kind, K, whole):
    with as_on_a_gpu(graphs=False):
        eager = trained(kind, False, "cpu", K, whole)
    with as_on_a_gpu():
        assert_same(trained(kind, True, "cpu", K, whole), eager)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("K", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_replayed_steps_equal_eager_ones_on_a_gpu(kind, K, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # see test_graphs.py
    assert_same(*(trained(kind, graph, "cuda", K, True) for graph in (True, False)))


def test_a_part_without_gradient_stays_without():
    """The head that a phase of training does not use has no gradient, not one of 0, which would
    decay it."""
    with as_on_a_gpu():
        net = net_of("transfer", "cpu")
        graphs = StepGraphs(net)
        for kind in ("transfer", "alone") * 2:
            for sequences, others in batches("transfer", "cpu"):
                net.zero_grad()
                run = run_of(kind, net, len(sequences[0]))
                if kind == "alone":
                    sequences[1] = None
                backward(run, sequences, others, gradient="sltt", graphs=graphs)
                used = net.heads["static"].weight.grad is not None
                assert used is (kind == "transfer")
        assert graphs.n_graphs > 4


def test_a_layer_that_is_frozen_for_a_while():
    with as_on_a_gpu():
        net = net_of("conv", "cpu")
        graphs, weight = StepGraphs(net), net.heads["event"].weight
        for learns in (True, False, True):
            weight.requires_grad = learns
            for _ in range(3):
                net.zero_grad()
                x, label_B = torch.rand(4, B, 2, 8, 8), torch.arange(B)
                run = run_of("conv", net, 4)
                backward(run, [x, None, torch.arange(4)], [label_B], gradient="sltt", graphs=graphs)
                assert (weight.grad is not None) is learns


def test_a_graph_of_all_steps_cannot_draw_some():
    net = net_of("conv", "cpu")
    with as_on_a_gpu():
        how = dict(gradient="sltt", backward_steps=2)
        run = run_of("conv", net, 4)
        step = GraphedStep(
            net,
            torch.optim.SGD(net.parameters(), 0.1),
            gradients=lambda x, y: (backward(run, [x, None, x], [y], **how)[0], {}),
        )
        step(torch.rand(4, B, 2, 8, 8), torch.arange(B))
        with pytest.raises(BackendError, match="the same ones for ever"):
            step(torch.rand(4, B, 2, 8, 8), torch.arange(B))


def test_a_recording_is_one_step_however_many_there_are():
    with as_on_a_gpu():
        net = net_of("conv", "cpu")
        graphs = StepGraphs(net)
        for T in (4, 9):
            x = torch.rand(T, B, 2, 8, 8)
            for _ in range(3):
                run, label_B = run_of("conv", net, 4), torch.arange(B)
                backward(run, [x, None, torch.arange(T)], [label_B], gradient="sltt", graphs=graphs)
        assert graphs.n_graphs == 4, "of each length the first step and another one"
        graphs.forget()
        assert graphs.n_graphs == 0


def test_there_are_no_graphs_on_a_cpu():
    net = net_of("conv", "cpu")
    assert not StepGraphs(net).graph
    with pytest.raises(BackendError, match="need a CUDA device"):
        StepGraphs(net, graph=True)
