"""Independent jobs, such as files to encode, on several processes."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from ..errors import DataError


def run_jobs(
    work: Callable[[Any], None], jobs: Sequence, processes: int | None, progress: bool, unit: str
) -> None:
    """Calls `work` with every job, in this process if `processes` is at most 1; None: one for each
    core. The bar of `progress` counts in `unit`. Errors: DataError if a process dies; whatever
    `work` raises."""
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    bar = {"total": len(jobs), "unit": unit, "desc": "encoding", "disable": not progress}
    if processes <= 1:
        for job in tqdm(jobs, **bar):
            work(job)
        return
    # spawn, not fork: a fork of a process with threads (torch's) can hang
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        for _ in tqdm(pool.map(work, jobs), **bar):
            pass
    except BrokenProcessPool as error:
        reason = "a worker process died, perhaps for lack of memory"
        raise DataError(f"{reason}: run the same command again with fewer processes") from error
    finally:
        pool.shutdown(cancel_futures=True)
