"""Everything about a GPU in one command of at most eight minutes: what is right, what it takes.

    python benchmarks/gpu.py [--parts correctness step ...] [--device cuda] [--out FILE]
    PYTHONPATH=. python benchmarks/gpu.py          from a checkout that is not installed

correctness   every op's kernels against the reference, values and gradients
capture       training steps replayed from a CUDA graph against eager ones, bit for bit
step          whole steps: eager, one graph, evaluation, memory; the peer alternating
sltt          the temporal gradients on a conv net
speedrun      the first epochs of benchmarks/speedrun.py
wait          the part of a training epoch that waits for data
ops           every op beside the device's limits
tests         the tests that need a GPU; only if named

A part runs in a process of its own under its own limit of time; one that fails or takes too long
says so in one line, and the rest goes on. Result lines are appended as they come to
benchmarks/results/gpu.jsonl, of which benchmarks/tables.py makes the tables of the documents.
`--device cpu` runs all of it small, to try it out.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import RESULTS, append

FOLDER = Path(__file__).parent
LIMITS = {  # part: most seconds
    "correctness": 90,
    "capture": 90,
    "step": 150,
    "sltt": 60,
    "speedrun": 90,  # it makes the clips
    "wait": 60,
    "ops": 60,
    "tests": 240,
}
BY_NAME = ("tests",)  # parts that run only if they are named
TAIL = 3000  # characters of an error that a line keeps


def command(part: str, o: argparse.Namespace) -> list[str]:
    """What runs a part."""
    if part == "tests":
        plugins = ["-p", "no:benchmark", "-p", "no:cacheprovider"]
        return [sys.executable, "-m", "pytest", "-m", "gpu", *plugins, str(FOLDER.parent / "tests")]
    words = [sys.executable, str(FOLDER / "gpu_parts.py"), part, "--out", str(o.out)]
    words += ["--device", o.device] if o.device else []
    return words + (["--commit", o.commit] if o.commit else [])


def run(part: str, limit_s: float, o: argparse.Namespace) -> dict:
    """Runs a part; returns how it went, with the reason if it failed."""
    start = time.perf_counter()
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH")]
    process = subprocess.Popen(
        command(part, o),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        error, failed = process.communicate(timeout=limit_s)[1], None
        if process.returncode:
            lines = [line.strip() for line in error.splitlines() if line.strip()]
            failed = lines[-1] if lines else f"ended with code {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        error, failed = process.communicate()[1], f"took longer than its {limit_s:.0f} s"
    done = {"part": part, "seconds_of_part": round(time.perf_counter() - start, 1)}
    return done | {"failed": failed} | ({"stderr": error[-TAIL:]} if failed else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    usual = [part for part in LIMITS if part not in BY_NAME]
    add("--parts", nargs="+", choices=LIMITS, default=usual, help="Run only these, in this order.")
    add("--device", choices=("cuda", "cpu"), help="Run there (cuda); cpu: small.")
    add("--minutes", type=float, default=8, help="Stop after so long.")
    add("--commit", help="Say this in the lines where git cannot.")
    add("--out", type=Path, default=RESULTS / "gpu.jsonl", help="Append JSON lines here.")
    o = parser.parse_args()
    end = time.monotonic() + 60 * o.minutes
    read = len(o.out.read_text().splitlines()) if o.out.exists() else 0
    done = []
    for part in o.parts:
        done.append(run(part, max(1.0, min(LIMITS[part], end - time.monotonic())), o))
        append(done[-1], o.out)
        how = done[-1]["failed"] or "done"
        print(f"== {part}: {how} ({done[-1]['seconds_of_part']} s)\n", flush=True)
    import tables_gpu  # scipy; only for the table

    lines = [json.loads(line) for line in o.out.read_text().splitlines()[read:]]
    print(tables_gpu.summary(lines))
    print("\n".join(f"{x['part']}: {x['failed']}" for x in done if x["failed"]))
    return int(any(x["failed"] for x in done))


if __name__ == "__main__":
    sys.exit(main())
