"""What a clock looks like whose events lie outside the frames, and what is said about it."""

import pytest

from snndelay.data.coverage import Coverage, clock_of, coverage_lines, taken_lines


@pytest.mark.parametrize(
    ("first_s", "last_s", "said"),
    [
        (0.01, 0.9, ""),
        (0.9, 1.5, ""),
        (3.0, 50.0, ""),  # a long sample, whose first events come late
        (5.0, 5.6, "the clock starts at 5 s"),
        (1.7e9, 1.7e9 + 2, "the clock starts at 1.7e+09 s"),
        (2, 700, "times look like milliseconds"),
        (2e3, 7e5, "times look like microseconds"),
        (2e6, 7e8, "times look like nanoseconds"),
        (5000, 5700, "times look like milliseconds, the clock starts at 5 s"),
        (1.7e12, 1.7e12 + 700, "times look like milliseconds, the clock starts at 1.7e+09 s"),
    ],
)
def test_clocks(first_s, last_s, said):
    assert clock_of(1e6 * first_s, 1e6 * last_s).sentence() == said


def test_samples_may_be_longer():
    assert clock_of(0, 300e6, longest_s=600).unit is None, "five minutes of ten"
    assert clock_of(0, 300e6).unit == "ms", "five minutes where there is one"


def test_one_line_for_all_parts_and_a_warning_for_each_that_loses_events():
    parts = [
        Coverage("training", 1_000_000, 1_000_000),
        Coverage("validation", 989, 1000, "see --n-steps"),
        Coverage("test", 999_999, 1_000_000),
    ]
    line, *warnings = coverage_lines(parts)
    assert line == (
        "events in the frames: training 100.0% of 1,000,000, validation 98.9% of 1,000, "
        "test 99.9999% of 1,000,000"
    ), line
    assert warnings == [
        "warning: validation: the frames leave out 1.1% of the events, see --n-steps"
    ], warnings
    assert coverage_lines([]) == []
    odd = Coverage("test", 5, 5, "times look like milliseconds")
    assert coverage_lines([odd])[1:] == ["warning: test: times look like milliseconds"], (
        coverage_lines([odd])
    )


def test_what_each_filter_took_is_said_even_if_it_is_nothing():
    assert taken_lines({}, 9) == []
    line = "filters took away, of 4,000 events: noise 1,000 (25.0%), thinning 0 (0.0%)"
    assert taken_lines({"noise": 1000, "thinning": 0}, 4000) == [line]
    assert taken_lines({"noise": 0}, 0) == ["filters took away, of 0 events: noise 0 (0.0%)"]
