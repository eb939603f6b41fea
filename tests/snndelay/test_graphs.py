"""GraphedStep: the same as a plain loop, bad steps change nothing, sums, and graphs on a GPU."""

import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from snndelay import ConvNet, DelayNet, GraphedStep, clamp_, parameter_groups, softmax_sum
from snndelay.errors import BackendError
from snndelay.graphs import _copies, _undo
from snndelay.recorded import Graphed

from ..helpers_capture import Watch, absent_device, counts, labels, moved
from ..helpers_replay import as_on_a_gpu

B, C, N = 4, 7, 3
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def small_net(seed: int = 0, **options) -> DelayNet:
    torch.manual_seed(seed)
    return DelayNet(C, N, 8, max_delay_steps=5, neuron="plif", tau=2.0, **options)


def adams(net) -> list[torch.optim.Optimizer]:
    *others, positions = parameter_groups(net, 1e-2, 0.1, 1e-4)
    return [torch.optim.Adam(others), torch.optim.Adam([positions])]


def batch(i: int, T: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(i)
    x_TBC = torch.poisson(torch.full((T, B, C), 0.7), generator=source)
    return x_TBC.to(device), torch.randint(N, (B,), generator=source).to(device)


def state_of(net, optimizers) -> dict[str, torch.Tensor]:
    """Everything that a step changes, by name."""
    found = {name: t.detach().clone() for name, t in net.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for j, state in enumerate(optimizer.state.values()):
            found |= {f"{i}.{j}.{k}": v.clone() for k, v in state.items() if torch.is_tensor(v)}
    return found


def assert_same(one: dict, other: dict, what: str = "") -> None:
    assert one.keys() == other.keys(), f"{what}: {one.keys() ^ other.keys()}"
    for name, a in one.items():
        b = other[name].to(a.device)
        assert torch.equal(a, b), f"{what} {name} differs, most by {(a - b).abs().max()}"


def test_a_step_is_a_step_of_a_plain_loop():
    ours, plain = small_net(), small_net()
    mine, theirs = adams(ours), adams(plain)
    schedules = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (*mine, *theirs)]
    step = GraphedStep(ours, mine, softmax_sum, grad_clip=0.5)
    for i in range(6):
        x_TBC, label_B = batch(i, T=9 + i % 2)
        torch.manual_seed(i)
        loss = step(x_TBC, label_B)
        torch.manual_seed(i)
        for optimizer in theirs:
            optimizer.zero_grad()
        want = softmax_sum(plain(x_TBC), label_B)
        want.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        for optimizer in theirs:
            optimizer.step()
        clamp_(plain)
        assert torch.equal(loss, want), f"step {i}: loss {loss} instead of {want}"
        for schedule in schedules:
            schedule.step()
    assert not loss.requires_grad and step.n_graphs == 0
    assert_same(state_of(ours, mine), state_of(plain, theirs))


OPTIMIZERS = {
    "Adam": adams,
    "SGD": lambda net: [torch.optim.SGD(parameter_groups(net, 1e-2, 0.1), momentum=0.9)],
    "Adagrad": lambda net: [torch.optim.Adagrad(parameter_groups(net, 1e-2, 0.1))],
}


@pytest.mark.parametrize("where", ["cpu", "gpu"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("bad_value", [float("nan"), float("inf")])
def test_a_bad_step_changes_nothing(bad_value, optimizer, where):
    with as_on_a_gpu(graphs=False) if where == "gpu" else nullcontext():
        net = small_net()
        optimizers = OPTIMIZERS[optimizer](net)
        step = GraphedStep(net, optimizers, softmax_sum)
        x_TBC, label_B = batch(0, 9)
        step(x_TBC, label_B)
        before = state_of(net, optimizers)
        step(x_TBC * bad_value, label_B)
        step(x_TBC * bad_value, label_B)
        assert_same(before, state_of(net, optimizers), "after a bad step")
        totals = step.totals()
        assert (totals.steps, totals.bad_steps) == (3, 2)
        assert totals.first_bad and totals.first_bad[0] == 1, totals
        assert totals.sums["loss"].isfinite(), "a bad step counts in no sum"
        step(x_TBC, label_B)
        after = state_of(net, optimizers)
        assert not torch.equal(before["blocks.0.delay.weight"], after["blocks.0.delay.weight"])
        step.reset()
        assert step.totals()[:3] == (0, 0, None)


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_a_first_step_may_be_bad(where):
    with as_on_a_gpu(graphs=False) if where == "gpu" else nullcontext():
        net = small_net()
        optimizers = OPTIMIZERS["SGD"](net)
        step = GraphedStep(net, optimizers, softmax_sum)
        before = state_of(net, [])
        x_TBC, label_B = batch(0, 9)
        step(x_TBC * float("nan"), label_B)
        assert_same(before, state_of(net, []))
        step(x_TBC, label_B)
        assert all(t.isfinite().all() for t in state_of(net, optimizers).values())


def test_a_bad_gradient_of_a_good_loss():
    net = nn.Linear(2, 1)
    step = GraphedStep(net, torch.optim.SGD(net.parameters(), 0.1), lambda y: (y - y).sqrt().sum())
    before = net.weight.detach().clone()
    assert step(torch.ones(1, 2)) == 0
    assert torch.equal(net.weight, before)
    number, loss, norm = step.totals().first_bad
    assert (number, loss) == (0, 0) and norm != norm


def test_undo_is_exact_in_every_type():
    types = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.int32)
    old = [torch.randn(3, 2).mul(9).to(dtype) for dtype in types] + [torch.tensor([-0.0])]
    for bad in (True, False):
        now = [t.clone() for t in old]
        before = _copies(now)
        for t in now:
            t.zero_() if t.dtype == torch.bool else t.fill_(
                float("nan") if t.is_floating_point() else 7
            )
        changed = [t.clone() for t in now]
        _undo(torch.tensor(bad), now, before)
        for t, want in zip(now, old if bad else changed, strict=True):
            assert torch.equal(t.view(torch.uint8), want.view(torch.uint8)), t.dtype


def test_statistics_are_summed():
    net = small_net(dropout=0.0)

    def loss(v_TBN, label_B):
        right = (v_TBN.softmax(-1).sum(0).argmax(-1) == label_B).sum()
        return softmax_sum(v_TBN, label_B), {
            "correct": right,
            "mean_N": v_TBN.detach().mean((0, 1)),
        }

    step = GraphedStep(net, adams(net), loss)
    losses = [step(*batch(i, 9)).double() for i in range(3)]
    totals = step.totals()
    assert set(totals.sums) == {"loss", "correct", "mean_N"}
    assert torch.equal(totals.sums["loss"], sum(losses)), "summed in float64"
    assert totals.sums["mean_N"].shape == (N,) and 0 <= totals.sums["correct"] <= 3 * B
    step._loss_function = softmax_sum
    with pytest.raises(ValueError, match="the statistics of a step are"):
        step(*batch(0, 9))


def test_wrong_arguments():
    net = small_net()
    with pytest.raises(ValueError, match="one of them"):
        GraphedStep(net, adams(net))
    with pytest.raises(ValueError, match="at least one optimizer"):
        GraphedStep(net, [], softmax_sum)
    for bad in (-1.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="must be above 0, or None"):
            GraphedStep(net, adams(net), softmax_sum, grad_clip=bad)
    with pytest.raises(BackendError, match="need a CUDA device, and this one is cpu"):
        GraphedStep(net, adams(net), softmax_sum, graph=True)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
def test_a_step_on_a_device_waits_for_nothing(optimizer, clip, monkeypatch):
    net = small_net(backend="triton")
    with absent_device():
        groups = parameter_groups(moved(net), 1e-3, 0.1)
        step = GraphedStep(
            net, getattr(torch.optim, optimizer)(groups), softmax_sum, grad_clip=clip
        )
        monkeypatch.setattr(step, "_is_first", lambda: False)  # the first step reads once
        step(counts(9, B, C), labels(B))
        step.optimizers[0].param_groups[0]["lr"] = 0.5
        with Watch():
            step(counts(9, B, C), labels(B))


# -- graphs ---


def some_net(kind: str, device: str):
    if kind == "conv":
        torch.manual_seed(0)
        return ConvNet("small", N, (16, 16), 5, dropout=0.2, max_delay_steps=2).to(device)
    return small_net().to(device)


def some_batches(kind: str, device: str):
    for i in range(20):
        x, label_B = batch(i, 9 + i % 2, device)
        if kind == "conv":
            source = torch.Generator().manual_seed(i)
            x = torch.rand(4 + i % 2, B, 2, 16, 16, generator=source).to(device)
        yield x, label_B


def graph_and_eager(kind: str, optimizer: str, device: str, waits: Callable) -> dict[bool, dict]:
    """What 20 steps leave with graphs and without: two shapes, dropout, schedules, one that cycles
    momentum or beta_1, and a bad step. waits: called with whether a wait is an error from now."""
    found = {}
    for graph in (True, False):
        net = some_net(kind, device)
        made = OPTIMIZERS[optimizer](net)
        cycle = torch.optim.lr_scheduler.OneCycleLR
        schedules = [cycle(o, 5e-3, total_steps=21) for o in made]
        step = GraphedStep(net, made, softmax_sum, grad_clip=1.0, graph=graph)
        losses = []
        for i, (x, label_B) in enumerate(some_batches(kind, device)):
            x = x * float("nan") if i == 13 else x
            torch.manual_seed(i)
            waits(i > 3)
            try:
                losses.append(step(x, label_B))
            finally:
                waits(False)
            for schedule in schedules:
                schedule.step()
        assert step.n_graphs == (2 if graph else 0)
        totals = step.totals()
        assert (totals.steps, totals.bad_steps) == (20, 1) and totals.first_bad[0] == 13
        found[graph] = (
            state_of(net, made) | totals.sums | {"losses": torch.stack(losses).nan_to_num()}
        )
    return found


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("kind", ["delay", "conv"])
def test_a_replayed_step_equals_an_eager_one(kind, optimizer):
    """With recordings that work as those of a GPU do, see helpers_replay."""
    with as_on_a_gpu():
        found = graph_and_eager(kind, optimizer, "cpu", lambda _: None)
    assert_same(found[True], found[False], kind)


def test_a_recorded_function_of_its_own_inputs_and_of_a_state():
    """Memory that a recording reads and writes, further shapes, and what a recording depends on."""
    total, factor = torch.zeros(3), [2.0]

    def run(x, y):
        total.add_(x)
        return x * factor[0], None if y is None else x + y

    with as_on_a_gpu():
        graphed = Graphed(
            lambda x, y: tuple(t for t in run(x, y) if t is not None),
            torch.device("cpu"),
            state=lambda: factor[0],
            most=2,
        )
        ones, kept = torch.ones(3), []
        for i in range(4):
            kept.append(graphed(ones * i, None)[0])
        assert torch.equal(total, torch.full((3,), 6.0)) and graphed.n_graphs == 1
        assert [t.tolist() for t in kept] == [[2.0 * i] * 3 for i in range(4)], "of its own memory"
        assert len(graphed(ones, ones)) == 2 and graphed.n_graphs == 1, "None is a shape"
        factor[0] = 5.0
        assert [graphed(ones, None)[0][0].item() for _ in range(3)] == [5.0] * 3
        assert graphed.n_graphs == 2
        assert graphed(ones, ones)[1].tolist() == [2.0] * 3 and graphed.n_graphs == 2, "full"
        graphed.forget()
        assert graphed.n_graphs == 0


def test_a_recording_reads_nothing_that_others_drop():
    """A neuron keeps what it made of constants that nobody learns until one changes; the guard of a
    training step touches them all."""
    with as_on_a_gpu():
        torch.manual_seed(0)
        net = DelayNet(C, N, 8, max_delay_steps=5)  # `lif`: its tau is no parameter
        step = GraphedStep(net, adams(net), softmax_sum, graph=False)
        evaluate = Graphed(lambda x: (net(x),), torch.device("cpu"))
        for i in range(4):
            x_TBC, label_B = batch(i, 9)
            with torch.no_grad():
                net.eval()
                got, again, want = evaluate(x_TBC)[0], evaluate(x_TBC)[0], net(x_TBC)
                net.train()
            assert torch.equal(got, want) and torch.equal(again, want), f"evaluation {i}"
            step(x_TBC, label_B)
        assert evaluate.n_graphs == 1


def test_a_first_call_that_fails_records_nothing():
    failed, total = [], []

    def run(x):
        if not failed:
            failed.append(1)
            raise ZeroDivisionError
        if not total:
            total.append(torch.zeros(3))  # in a recording each replay would make it anew
        total[0].add_(x)
        return (x * 2,)

    with as_on_a_gpu():
        graphed = Graphed(run, torch.device("cpu"))
        with pytest.raises(ZeroDivisionError):
            graphed(torch.ones(3))
        for _ in range(4):
            graphed(torch.ones(3))
        assert total[0].tolist() == [4.0] * 3 and graphed.n_graphs == 1


def test_a_parameter_that_learns_later():
    """Its first momentum comes when the others have theirs."""
    with as_on_a_gpu(graphs=False):
        found = []
        for _ in range(2):
            net = small_net()
            net.blocks[0].delay.weight.requires_grad = False
            groups = [{"params": list(net.parameters())}]
            sgd = torch.optim.SGD(groups, 1e-2, momentum=0.9)
            step = GraphedStep(net, sgd, softmax_sum)
            for i in range(4):
                net.blocks[0].delay.weight.requires_grad = i > 1
                torch.manual_seed(i)
                step(*batch(i, 9))
            found.append(state_of(net, [sgd]))
        assert_same(*found)
        assert all(p in sgd.state for p in net.parameters())


def test_what_asks_for_a_value_cannot_be_recorded():
    with as_on_a_gpu():
        run = Graphed(lambda x: (x * float(x.sum()),), torch.device("cpu"))
        run(torch.ones(3))
        with pytest.raises(BackendError, match=r"cannot be recorded .* turn graphs off"):
            run(torch.ones(3))


# -- on a GPU ---


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("kind", ["delay", "conv"])
def test_graphs_equal_eager(kind, optimizer, monkeypatch):
    """A replay waits for nothing."""
    # cuDNN may take convolutions that add in any order, and two runs then differ without graphs too
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)

    def waits(forbidden: bool) -> None:
        torch.cuda.set_sync_debug_mode("error" if forbidden else "default")

    found = graph_and_eager(kind, optimizer, "cuda", waits)
    assert_same(found[True], found[False], kind)


@pytest.mark.gpu
@gpu
def test_more_shapes_than_graphs(caplog):
    net = small_net().cuda()
    step = GraphedStep(net, adams(net), softmax_sum, most_graphs=1)
    with caplog.at_level(logging.WARNING, "snndelay"):
        for i in range(9):
            step(*batch(i, 9 + i % 3))  # from the host
    assert step.n_graphs == 1 and len(caplog.records) == 1
    assert "other shapes run without" in caplog.text


@pytest.mark.gpu
@gpu
def test_what_cannot_be_recorded_says_so():
    """In a process of its own: torch may be left in the middle of a recording."""
    program = (
        "import torch\n"
        "from snndelay.errors import BackendError\n"
        "from snndelay.recorded import Graphed\n"
        "run = Graphed(lambda x: (x * float(x.sum()),), torch.device('cuda'))\n"
        "x = torch.ones(3, device='cuda')\n"
        "run(x)\n"
        "try:\n    run(x)\n"
        "except BackendError as error:\n    print(error, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "cannot be recorded as a CUDA graph" in done.stdout, done.stderr


@pytest.mark.gpu
@gpu
def test_a_checkpoint_is_seen_by_the_graphs():
    net = small_net().cuda()
    (optimizer,) = made = [torch.optim.Adam(parameter_groups(net, 1e-2, 0.1))]
    step = GraphedStep(net, made, softmax_sum)
    for i in range(3):
        step(*batch(i, 9, "cuda"))
    kept = {k: v.clone() for k, v in net.state_dict().items()}, optimizer.state_dict()
    kept = (
        kept[0],
        torch.utils._pytree.tree_map(lambda v: v.clone() if torch.is_tensor(v) else v, kept[1]),
    )
    ends = []
    for _ in range(2):
        for i in range(3):
            torch.manual_seed(i)
            step(*batch(i, 9, "cuda"))
        ends.append(state_of(net, made))
        net.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
    assert_same(*ends)
