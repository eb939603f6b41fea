"""Statistics over seeds: means with their errors, and Welch's test of two groups of runs."""

import statistics
import warnings
from typing import NamedTuple

from scipy import stats

DELAY_PAIRS = (("learned", "fixed"), ("learned", "frozen"), ("learned", "none"), ("fixed", "none"))


class Welch(NamedTuple):
    """Two-sided p of equal means, and the 95 % confidence interval of their difference."""

    p: float
    low: float
    high: float

    def words(self) -> str:
        """`p = 0.012`"""
        return "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"


def welch(a: list[float], b: list[float]) -> Welch | None:
    """Welch's t-test of two groups, whose variances may differ; None where one of them has a single
    value or neither has any spread.

    Source: Welch, Biometrika 34 (1947), 10.1093/biomet/34.1-2.28.
    """
    if min(len(a), len(b)) < 2 or len({*a}) == len({*b}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one group without spread, which may be
        found = stats.ttest_ind(a, b, equal_var=False)
        interval = found.confidence_interval(0.95)
    return Welch(float(found.pvalue), float(interval.low), float(interval.high))


def paired(differences: list[float]) -> str:
    """Two-sided p of a mean difference of 0 (Student's paired t-test), as words; a dash where one
    value, or values without spread, say nothing."""
    if max(differences) - min(differences) < 1e-9:
        return "–"
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def standard_error(values: list[float]) -> float | None:
    """Standard error of the mean; None for one value, which has no spread."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def half_interval(values: list[float]) -> float:
    """Half the width of the mean's 95 % confidence interval, by Student's t; 0 for one value."""
    return float(stats.t.ppf(0.975, max(1, len(values) - 1))) * (standard_error(values) or 0.0)


def percent(values: list[float]) -> str:
    """`mean ± standard error of the mean` over seeds, in percent."""
    if not values:
        return "not measured"
    error = standard_error(values)
    return f"{statistics.mean(values):.1%}" + (f" ± {error:.1%}" if error is not None else "")


def difference(a: list[float], b: list[float]) -> str:
    """Difference of two means over seeds in points, with Welch's two-sided p."""
    points = f"{100 * (statistics.mean(a) - statistics.mean(b)):+.1f}"
    if min(len(a), len(b)) < 2:
        return f"{points} (one seed)"
    found = welch(a, b)
    return f"{points} ({found.words() if found else 'no spread'})"


def table(head: str, rows: list[list], about: str = "") -> str:
    """Markdown; head: its columns, separated by |."""
    lines = [f"| {head} |", "|" + "---|" * len(head.split("|"))]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines + (["", about] if about else []))
