"""What all tables share: result files, Markdown, and statistics over seeds."""

import json
import statistics

from common import RESULTS
from scipy.stats import ttest_ind

NOT_MEASURED = "Not measured."


def read(name: str) -> list[dict]:
    """Lines of a result file; none if there is no file yet."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def latest(name: str, *key: str) -> list[dict]:
    """Newest line of a result file, measured on a CPU, for each value of the keys."""
    lines = [x for x in read(name) if x.get("device", "CPU").startswith("CPU")]
    return [*{json.dumps([line.get(k) for k in key]): line for line in lines}.values()]


def table(head: str, rows: list[list], about: str = "") -> str:
    """Markdown; head: its columns, separated by |."""
    lines = [f"| {head} |", "|" + "---|" * len(head.split("|"))]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines + (["", about] if about else []))


def percent(values: list[float]) -> str:
    """`mean ± standard error of the mean` over seeds, in percent."""
    if not values:
        return "not measured"
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return f"{statistics.mean(values):.1%}" + (f" ± {error:.1%}" if error is not None else "")


def of_the_test_set(values: list[float], n: int) -> str:
    """Standard error that n test samples leave in an accuracy, sqrt(p (1 - p) / n)."""
    p = statistics.mean(values)
    return f"{(p * (1 - p) / n) ** 0.5:.1%}"


def difference(a: list[float], b: list[float]) -> str:
    """Difference of two means over seeds in points, with Welch's two-sided p."""
    points = f"{100 * (statistics.mean(a) - statistics.mean(b)):+.1f}"
    if min(len(a), len(b)) < 2:
        return f"{points} (one seed)"
    p = float(ttest_ind(a, b, equal_var=False).pvalue)
    return f"{points} (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"


def measured_on(lines: list[dict]) -> str:
    """Machine and versions of the lines, one phrase for all that agree."""
    phrases = (
        f"{line['device']}, {line['threads']} threads, torch {line['torch']}, commit "
        f"{line['commit']}, medians of {line['rounds']} alternating rounds"
        for line in lines
    )
    return "; ".join(dict.fromkeys(phrases)) + "."
