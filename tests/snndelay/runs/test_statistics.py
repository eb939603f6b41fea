"""Statistics over seeds, against formulas written out here."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from snndelay.runs.statistics import difference, half_interval, percent, standard_error, welch


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (5, 3), (10, 10)])
def test_welch_is_the_published_formula(n_a, n_b):
    rng = np.random.default_rng(n_a)
    a, b = rng.normal(0.6, 0.05, n_a).tolist(), rng.normal(0.5, 0.01, n_b).tolist()
    parts = statistics.variance(a) / n_a, statistics.variance(b) / n_b
    free = sum(parts) ** 2 / (parts[0] ** 2 / (n_a - 1) + parts[1] ** 2 / (n_b - 1))
    gap, error = statistics.mean(a) - statistics.mean(b), math.sqrt(sum(parts))
    half = stats.t.ppf(0.975, free) * error
    found = welch(a, b)
    assert math.isclose(found.p, 2 * stats.t.sf(abs(gap) / error, free), rel_tol=1e-9), found
    assert math.isclose(found.low, gap - half, rel_tol=1e-9), found
    assert math.isclose(found.high, gap + half, rel_tol=1e-9), found


def test_groups_without_spread():
    assert welch([0.5], [0.5, 0.6]) is None and welch([0.5, 0.5], [0.6, 0.6]) is None
    assert 0 < welch([0.5, 0.5, 0.5], [0.6, 0.7, 0.8]).p < 0.2, "one group may have none"
    assert difference([0.5, 0.5], [0.6, 0.6]) == "-10.0 (no spread)"
    assert difference([0.5], [0.6]) == "-10.0 (one seed)"
    assert difference([0.9, 0.901], [0.1, 0.101]) == "+80.0 (p < 0.001)"


def test_errors_of_a_mean():
    values = [0.2, 0.4, 0.9]
    error = np.std(values, ddof=1) / math.sqrt(3)
    assert math.isclose(standard_error(values), error)
    assert math.isclose(half_interval(values), 4.302652729911275 * error), "t of 2 degrees"
    assert percent(values) == f"50.0% ± {error:.1%}"
    assert standard_error([0.5]) is None and half_interval([0.5]) == 0
    assert percent([0.5]) == "50.0%" and percent([]) == "not measured"
