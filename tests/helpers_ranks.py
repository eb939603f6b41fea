"""Functions that run in several processes which know each other."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def together(size: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """What `work(*args)`, a function of a module, returns in each of `size` processes: plain values
    and tensors."""
    with tempfile.TemporaryDirectory() as name:
        folder, start = Path(name), multiprocessing.get_context("spawn")
        crew = [
            start.Process(target=_one, args=(rank, size, folder, work, args))
            for rank in range(size)
        ]
        for process in crew:
            process.start()
        for process in crew:
            process.join(300)
            process.kill()
        assert [process.exitcode for process in crew] == [0] * size
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _one(rank: int, size: int, folder: Path, work: Callable[..., Any], args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/met", rank=rank, world_size=size)
    torch.save(work(*args), folder / f"{rank}.pt")
    dist.destroy_process_group()
