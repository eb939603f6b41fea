"""What benchmarks share: result files, and runs of the trainer several at a time."""

import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

RESULTS = Path(__file__).parent / "results"
Job = tuple[dict, str, int]  # changed settings, preset, threads


def append(line: dict, path: Path) -> None:
    """Adds a result line to a file, which is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def changes(pairs: list[str]) -> dict:
    """Settings from words NAME=VALUE; values as in YAML, but `off` and `on` stay words."""
    split = (pair.split("=", 1) for pair in pairs)
    return {k: v if v in ("off", "on") else yaml.safe_load(v) for k, v in split}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def train(job: Job) -> dict:
    """One run in a temporary folder; returns its summary with the settings that were changed."""
    changed, preset, threads = job
    from snndelay import fit
    from snndelay.runs.presets import preset_settings
    from snndelay.runs.settings import FROM_DATA

    with tempfile.TemporaryDirectory() as runs:
        settings = preset_settings(preset) | changed | {"runs": runs, "threads": threads}
        settings = {k: v for k, v in settings.items() if k not in FROM_DATA}
        summary = fit(settings, preset=preset, draw=False)
    shown = {k: Path(v).name if k in ("dataset", "test_file") else v for k, v in changed.items()}
    return summary | shown | {"settings": shown}


def pin(numbers: multiprocessing.Queue, jobs: int) -> None:
    """Gives every process of the pool processors of its own: unpinned, two single-threaded runs on
    two cores take twice as long (docs/log.md)."""
    mine = sorted(os.sched_getaffinity(0))[numbers.get() :: jobs]
    os.sched_setaffinity(0, mine)


def trained(jobs: list[Job], at_a_time: int) -> Iterator[dict]:
    """Lines of `train` for the jobs, in their order, so many at a time."""
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for i in range(at_a_time):
        numbers.put(i)
    with context.Pool(at_a_time, pin, (numbers, at_a_time)) as pool:
        yield from pool.imap(train, jobs)
        pool.close()
        pool.join()  # workers that are killed leave semaphores behind
