"""What all tables share: result files, and what is said about the lines of one."""

import json
import statistics

from common import RESULTS

NOT_MEASURED = "Not measured."


def read(name: str) -> list[dict]:
    """Lines of a result file; none if there is no file yet."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def latest(name: str, *key: str) -> list[dict]:
    """Newest line of a result file, measured on a CPU, for each value of the keys."""
    lines = [x for x in read(name) if x.get("device", "CPU").startswith("CPU")]
    return [*{json.dumps([line.get(k) for k in key]): line for line in lines}.values()]


def of_the_test_set(values: list[float], n: int) -> str:
    """Standard error that n test samples leave in an accuracy, sqrt(p (1 - p) / n)."""
    p = statistics.mean(values)
    return f"{(p * (1 - p) / n) ** 0.5:.1%}"


def measured_on(lines: list[dict]) -> str:
    """Machine and versions of the lines, one phrase for all that agree."""
    phrases = (
        f"{line['device']}, {line['threads']} threads, torch {line['torch']}, commit "
        f"{line['commit']}, medians of {line['rounds']} alternating rounds"
        for line in lines
    )
    return "; ".join(dict.fromkeys(phrases)) + "."
