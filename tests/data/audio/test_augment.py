import numpy as np
import pytest

from snndelay.data.audio import augment as aug
from snndelay.data.events import Events
from snndelay.errors import ConfigError

STRONG = dict(
    **dict(aug_time_shift_ms=80.0, aug_unit_shift=60.0, aug_unit_scale=0.3, aug_time_scale=0.3),
    **dict(aug_unit_jitter=8.0, aug_time_jitter_ms=8.0, aug_drop=0.3),
    **dict(aug_time_mask_ms=200.0, aug_unit_mask=100.0),
)


def clip(n: int = 400, seed: int = 1) -> Events:
    rng = np.random.default_rng(seed)
    return Events(np.sort(rng.integers(0, 500_000, n)), rng.integers(0, 700, n).astype(np.uint16))


def run(events: Events, seed: int = 0, **fields) -> Events:
    return aug.augment(events, fields, np.random.default_rng(seed), 700)


def test_off_is_the_identity():
    events = clip()
    assert run(events, **dict.fromkeys(STRONG, 0)) is events
    assert run(events) is events, "missing fields must count as off"


def test_a_name_that_is_none_is_refused_with_the_nearest():
    aug.check_amounts(STRONG)
    with pytest.raises(ConfigError, match="did you mean aug_drop"):
        aug.check_amounts({"aug_dorp": 0.1})


def test_every_field_has_its_function():
    assert set(aug.AUGMENTATIONS) == set(STRONG), "this test must cover every augmentation"


@pytest.mark.parametrize("field", [*STRONG, None])
def test_valid_deterministic_and_effective(field):
    fields = STRONG if field is None else {field: STRONG[field]}
    events, changed = clip(), 0
    for seed in range(20):
        one, two = run(events, seed, **fields), run(events, seed, **fields)
        one.validate(700)
        assert np.array_equal(one.t_us, two.t_us), f"{field} is not a function of the seed"
        assert np.array_equal(one.x, two.x), f"{field} is not a function of the seed"
        changed += not (np.array_equal(one.t_us, events.t_us) and np.array_equal(one.x, events.x))
    assert changed >= 18, f"{field} changed only {changed} of 20 clips"


def test_shifts_are_rigid_and_inside_the_bounds():
    events = Events(300_000 + np.array([0, 7, 9]), np.array([300, 340, 350]))
    for seed in range(50):
        got = run(events, seed, aug_time_shift_ms=100, aug_unit_shift=50)
        assert np.ptp(got.t_us - events.t_us) == 0, "a time shift changed intervals"
        assert np.ptp(got.x - events.x) == 0, "a unit shift changed distances"
        assert abs(got.t_us[0] - events.t_us[0]) <= 100_000
        assert abs(got.x[0] - events.x[0]) <= 50


def test_events_outside_the_axes_are_dropped():
    edge = Events(np.array([0, 400_000]), np.array([0, 350]))
    sizes = {len(run(edge, seed, aug_unit_shift=20)) for seed in range(30)}
    assert sizes == {1, 2}, f"unit -20..-1 must be dropped: {sizes}"
    sizes = {len(run(edge, seed, aug_time_shift_ms=20)) for seed in range(30)}
    assert sizes == {1, 2}, f"negative times must be dropped: {sizes}"


def test_masks_leave_the_rest_alone():
    events = clip()
    got = run(events, 3, aug_time_mask_ms=200)
    gone = np.setdiff1d(events.t_us, got.t_us)
    assert len(gone), "nothing was masked"
    assert np.ptp(gone) < 200_000
    assert not np.any((got.t_us > gone.min()) & (got.t_us < gone.max())), "the mask has holes"


def test_drop_keeps_the_expected_part():
    left = len(run(clip(20_000), aug_drop=0.3)) / 20_000
    assert abs(left - 0.7) < 0.02, f"{left} of the events left, 0.7 expected"


def test_empty_result_falls_back_to_the_original():
    events = clip(3)
    assert run(events, aug_drop=1.0) is events


def test_blend_takes_half_of_both_around_one_centre():
    first, second = clip(4000, 1), clip(6000, 2)
    late = Events(second.t_us + 300_000, second.x)
    got = aug.blend(first, late, np.random.default_rng(0)).validate(700)
    assert abs(len(got) - 5000) < 200, f"{len(got)} events, 5000 expected"
    assert abs(got.t_us.mean() - first.t_us.mean()) < 5_000, "centres of mass differ"
    one = Events(np.array([5]), np.array([5]))
    sizes = {len(aug.blend(one, one, np.random.default_rng(seed))) for seed in range(20)}
    assert 0 not in sizes, "a blend must never be empty"
