"""Training steps in several processes of one thread each, beside one such process that makes the
whole step, and beside torch's DistributedDataParallel around the same network; alternating.

    python benchmarks/ranks.py [--processes 2] [--rounds 7] [--only shd shd-256 small]

A step is forward, loss, backward, the sum over processes, and Adam. DDP wants plain BatchNorm on a
CPU, whose statistics are those of each process: beside it ours has plain ones too. Appends a JSON
line per network to benchmarks/results/ranks.jsonl.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from common import RESULTS, append
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from snndelay import GraphedStep, build_model
from snndelay.data.batches import Shard
from snndelay.kernels.profile.measure import where
from snndelay.losses import softmax_sum
from snndelay.ranks import ALONE, Ranks
from snndelay.runs.machine import keep_freed_memory

CASES = {
    "shd": {"batch": 64},
    "shd-256": {"batch": 256},
    "small": {"batch": 64, "n_hidden": 64, "max_delay_steps": 9},
}
T, C = 100, 140
Step = Callable[[], Tensor]


def net_of(case: str) -> nn.Module:
    """The network of a case, the same in every process."""
    torch.manual_seed(0)
    changed = {k: v for k, v in CASES[case].items() if k != "batch"}
    return build_model("shd", n_in=C, n_out=20, dropout=0.0, **changed)


def steps_of(case: str, ranks: Ranks) -> dict[str, Step]:
    """One step in each way."""
    n = CASES[case]["batch"]
    x, label_B = torch.poisson(torch.full((T, n, C), 0.5)), torch.arange(n) % 20
    here = slice(*Shard(ranks.rank, ranks.size).bounds(n))
    mine, label = x[:, here].contiguous(), label_B[here]
    ranks.meet(len(label))

    def ours(net: nn.Module, among: Ranks, x: Tensor, label_B: Tensor) -> Step:
        step = GraphedStep(net, torch.optim.Adam(net.parameters()), softmax_sum, ranks=among)
        return lambda: step(x, label_B)

    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(net_of(case))
    wrapped = DistributedDataParallel(net_of(case))
    adam = torch.optim.Adam(wrapped.parameters())

    def ddp() -> Tensor:
        adam.zero_grad()
        loss = softmax_sum(wrapped(mine), label)
        loss.backward()
        adam.step()
        return loss

    return {
        "alone": ours(net_of(case), ALONE, x, label_B),
        "together": ours(synchronised, ranks, mine, label),
        "plain": ours(net_of(case), ranks, mine, label),
        "ddp": ddp,
    }


def measure(rank: int, size: int, file: str, case: str, rounds: int) -> None:
    """One of the processes; the first one appends the line."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank % os.cpu_count()]})
    keep_freed_memory()
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size)
    ranks = Ranks()
    steps, found = steps_of(case, ranks), {}
    for k in range(rounds + 1):
        for name, step in steps.items():
            ranks.wait()
            if name == "alone" and rank:
                continue
            begin = time.perf_counter()
            step()
            if k:  # the first one compiles
                found.setdefault(name, []).append(time.perf_counter() - begin)
    if rank == 0:
        seconds = {name: statistics.median(times) for name, times in found.items()}
        line = {"case": case, **CASES[case], "processes": size, "rounds": rounds, **seconds}
        line |= {"speedup": seconds["alone"] / seconds["together"]}
        line |= {"ddp_over_ours": seconds["ddp"] / seconds["plain"]}
        append(line | where(torch.device("cpu")), RESULTS / "ranks.jsonl")
        print(
            f"{case}: alone {seconds['alone']:.3f} s, {size} processes {seconds['together']:.3f} s "
            f"({line['speedup']:.2f} x); plain BatchNorm {seconds['plain']:.3f} s, DDP "
            f"{seconds['ddp']:.3f} s ({line['ddp_over_ours']:.2f} x ours)",
            flush=True,
        )
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    for case in given.only:
        with tempfile.TemporaryDirectory() as folder:
            how = (given.processes, str(Path(folder) / "met"), case, given.rounds)
            multiprocessing.spawn(measure, how, given.processes)


if __name__ == "__main__":
    main()
