"""Several processes make the step that one makes: gradients, running statistics, updates."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from snndelay import ConvNet, DelayNet, GraphedStep, RecurrentNet, backward, linear_cka, recompute_
from snndelay.data.batches import Shard
from snndelay.errors import DataError, UserError
from snndelay.ranks import ALONE, Elsewhere, Ranks, over_ranks

from ..helpers_ranks import together

T, B = 7, 6  # two and three processes have as many samples each, of B - 1 they do not
NETS = {
    "delay": lambda: DelayNet(11, 4, 9, max_delay_steps=5, dropout=0.0),
    "spikes": lambda: DelayNet(11, 4, 9, delay_kind="hybrid", dropout=0.0, readout="spikes"),
    "recurrent": lambda: RecurrentNet(11, 4, 9, max_delay_steps=5, dropout=0.0),
    "recomputed": lambda: _recomputed(DelayNet(11, 4, 9, max_delay_steps=5, dropout=0.0)),
    "watched": lambda: _watched(DelayNet(11, 4, 9, max_delay_steps=5, dropout=0.0)),
    "conv": lambda: ConvNet("small", 4, (8, 8), dropout=0.0, max_delay_steps=3),
    "conv watched": lambda: _watched(ConvNet("small", 4, (8, 8), dropout=0.0)),
}


def _recomputed(net: nn.Module) -> nn.Module:
    recompute_(net)
    return net


def _watched(net: nn.Module) -> nn.Module:
    """With a monitor, so that the parts of blocks are called one by one."""
    net.blocks[0].neuron.register_forward_hook(lambda *_: None)
    return net


def _net(name: str, dtype=torch.float64) -> nn.Module:
    torch.manual_seed(3)
    return NETS[name]().to(dtype)


def _samples(name: str, n: int, dtype=torch.float64):
    draw = torch.Generator().manual_seed(5)
    shape = (2, 8, 8) if name.startswith("conv") else (11,)
    x = (torch.rand(T, n, *shape, generator=draw) < 0.4).to(dtype)
    return x, torch.arange(n) % 4


def _loss(o_TBN, label_B):
    return F.cross_entropy(o_TBN.mean(0), label_B)


def _of_net(net: nn.Module) -> dict:
    grads = OrderedDict((k, p.grad) for k, p in net.named_parameters() if p.grad is not None)
    return {"grads": grads, "buffers": OrderedDict(net.named_buffers())}


def _step(net, x, label_B, ranks=ALONE) -> dict:
    """An update of SGD, and what it counted."""
    step = GraphedStep(net, torch.optim.SGD(net.parameters(), 0.1), _loss, ranks=ranks)
    loss = step(x, label_B)
    parameters = OrderedDict((k, p.detach()) for k, p in net.named_parameters())
    return _of_net(net) | {"loss": loss, "sum": step.totals().sums["loss"], "after": parameters}


def _sltt(net, x, label_B, ranks=ALONE) -> dict:
    """The gradient step by step."""

    def run(x, label_B, state):
        o, _, state = net.scan(x, state)
        return _loss(o, label_B) / T, o, state

    backward(run, [x], [label_B], gradient="sltt", scaler=ranks)
    ranks.sum_([p.grad for p in net.parameters() if p.grad is not None])
    return _of_net(net)


def _cka(u, v, ranks=ALONE):
    """Its gradient, of one of both, by everyone."""
    u.requires_grad_()
    cka_T = linear_cka(ranks.gathered(u, 1), ranks.gathered(v, 1))
    ranks.scale(cka_T.sum()).backward()
    return {"cka": cka_T.detach(), "grad": u.grad}


def _features():
    draw = torch.Generator().manual_seed(8)
    return (torch.rand(2, B - 1, 3, generator=draw, dtype=torch.float64) for _ in range(2))


def work() -> dict:
    """What one of several processes finds."""
    # DDP refuses these norms on a CPU, because their own forward cannot run there: ours can
    DistributedDataParallel._passing_sync_batchnorm_handle = lambda *_: None
    ranks, found = Ranks(), {}
    mine = Shard(ranks.rank, ranks.size)
    for name in NETS:
        x, label_B = _samples(name, B)
        here = slice(*mine.bounds(B))
        net = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(_net(name)))
        _loss(net(x[:, here]), label_B[here]).backward()
        found[f"DDP {name}"] = _of_net(net.module)
        for dtype in (torch.float32, torch.float64):
            x, label_B = _samples(name, B - 1, dtype)
            here = slice(*mine.bounds(B - 1))
            ranks.meet(len(label_B[here]))
            net = nn.SyncBatchNorm.convert_sync_batchnorm(_net(name, dtype))
            found[f"{name} {dtype}"] = _step(net, x[:, here], label_B[here], ranks)
    x, label_B = _samples("conv", B - 1)
    here = slice(*mine.bounds(B - 1))
    found["sltt"] = _sltt(
        nn.SyncBatchNorm.convert_sync_batchnorm(_net("conv")), x[:, here], label_B[here], ranks
    )
    u, v = (part[:, here].clone() for part in _features())
    found["cka"] = _cka(u, v, ranks)
    return found | _agreements(ranks)


def _agreements(ranks: Ranks) -> dict:
    """What processes come to that do not agree."""

    def failing():
        if ranks.rank == 1:
            raise DataError("clip 5 is bad: leave it out")
        return ranks.rank

    def told(make):
        try:
            make()
        except UserError as error:
            return type(error), str(error), error.exit_code

    return {
        "said": ranks.meet(ranks.rank, 10 * ranks.rank),
        "place": (ranks.own, ranks.total, ranks.first),
        "most": ranks.most(ranks.rank),
        "one": ranks.one(lambda: ranks.rank + 7),
        "all": ranks.all(lambda: ranks.rank),
        "failed": told(lambda: ranks.all(failing)),
        "first failed": told(lambda: ranks.one(lambda: (_ for _ in ()).throw(DataError("no")))),
        "statistics": over_ranks(torch.ones(2) * ranks.rank, torch.ones(2), ranks.rank + 1),
    }


@pytest.fixture(scope="module", params=[2, 3])
def processes(request):
    return together(request.param, work)


def _distance(got: dict, want: dict) -> float:
    """Relative L2 distance of all tensors."""
    assert got.keys() == want.keys()
    pairs = [(got[k].double(), want[k].double()) for k in want]
    off = sum((a - b).square().sum() for a, b in pairs).sqrt()
    return float(off / sum(b.square().sum() for _, b in pairs).sqrt())


@pytest.mark.parametrize("name", NETS)
def test_ddp_around_a_net_has_the_gradients_of_one_process(processes, name):
    net = _net(name)
    x, label_B = _samples(name, B)
    _loss(net(x), label_B).backward()
    want = _of_net(net)
    assert any(k.endswith("norm.weight") for k in want["grads"])
    for found in processes:
        got = found[f"DDP {name}"]
        assert _distance(got["grads"], want["grads"]) <= 1e-12
        assert _distance(got["buffers"], want["buffers"]) <= 1e-12


def _own_error(name: str, want: dict) -> float:
    """How far float32 alone is from float64, which recurrence makes larger than elsewhere."""
    exact = _net(name)
    exact.load_state_dict(_net(name, torch.float32).state_dict())
    return _distance(_step(exact, *_samples(name, B - 1))["grads"], want["grads"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NETS)
def test_a_step_of_unequal_shards_is_that_of_one_process(processes, name, dtype):
    want = _step(_net(name, dtype), *_samples(name, B - 1, dtype))
    most = 1e-12 if dtype == torch.float64 else max(1e-6, 1.5 * _own_error(name, want))
    for found in processes:
        got = found[f"{name} {dtype}"]
        for part in ("grads", "buffers", "after"):
            assert _distance(got[part], want[part]) <= most, part
        assert abs(got["loss"] - want["loss"]) <= most * want["loss"]
        assert abs(got["sum"] - want["sum"]) <= most * want["sum"]


def test_processes_end_with_the_same_bits(processes):
    for name in NETS:
        after = [found[f"{name} {torch.float32}"]["after"] for found in processes]
        assert all(torch.equal(other[k], after[0][k]) for other in after for k in other)


def test_gradients_step_by_step_are_those_of_one_process(processes):
    want = _sltt(_net("conv"), *_samples("conv", B - 1))
    for found in processes:
        assert _distance(found["sltt"]["grads"], want["grads"]) <= 1e-12
        assert _distance(found["sltt"]["buffers"], want["buffers"]) <= 1e-12


def test_cka_is_of_the_pairs_of_all_processes(processes):
    want = _cka(*_features())
    grads = torch.cat([found["cka"]["grad"] for found in processes], 1)
    assert torch.allclose(grads, want["grad"], rtol=1e-12, atol=1e-15)
    for found in processes:
        assert torch.allclose(found["cka"]["cka"], want["cka"], rtol=1e-12)


def test_what_processes_agree_on(processes):
    size = len(processes)
    for rank, found in enumerate(processes):
        assert found["said"] == [[r, 10 * r] for r in range(size)]
        assert found["place"] == (rank, sum(range(size)), sum(range(rank)))
        assert found["most"] == size - 1
        assert found["one"] == 7
        assert found["all"] == rank


def test_an_error_of_one_process_is_raised_in_all(processes):
    text = "clip 5 is bad: leave it out"
    for rank, found in enumerate(processes):
        own = (DataError, text, 2)
        assert found["failed"] == (own if rank == 1 else (Elsewhere, f"process 1: {text}", 2))
        no = (DataError, "no", 2) if rank == 0 else (Elsewhere, "process 0: no", 2)
        assert found["first failed"] == no


def test_statistics_of_parts_join(processes):
    rows = torch.cat([torch.full((r + 1,), float(r)) for r in range(len(processes))])
    for found in processes:
        mean, var, total = found["statistics"]
        assert torch.allclose(mean, rows.mean().expand(2))
        assert torch.allclose(var, 1 + rows.var(correction=0).expand(2))
        assert total == len(rows)


def test_shards_are_disjoint_and_cover_a_batch():
    for n in range(12):
        for size in range(1, 6):
            parts = [Shard(rank, size).of(range(n)) for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_alone_changes_nothing():
    x = torch.rand(3, 2)
    assert ALONE.scale(x) is x and ALONE.gathered(x, 1) is x and ALONE.everyone(5) == [5]
    assert Ranks().size == 1
