import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from snndelay.data.audio.frames import LONGEST_MS
from snndelay.data.audio.held import held_bytes, hold
from snndelay.data.audio.loader import loader
from snndelay.data.catalog import open_clips
from snndelay.errors import ConfigError, DataError, EventFormatError

from ...helpers_data import clips_s, small_file, write_file

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
AUGMENTED = dict(amounts={"aug_time_shift_ms": 40, "aug_unit_shift": 30, "aug_drop": 0.2}, mix=0.5)
CUT = dict(amounts={"aug_reverse": 0.5, "aug_noise": 0.3}, mix=0.3, cutmix=0.8)
# 5 workers on a small machine: torch warns that this may be slow, which is not the point here
MANY = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def data(tmp_path):
    return open_clips(str(small_file(tmp_path / "a.h5", 13)))


def settings(**changes) -> dict:
    return {"dt_ms": 10.0, "units_per_channel": 5, "batch_size": 4} | changes


def all_of(data, config, **kwargs):
    return list(loader(data, **{"seed": 3, "epoch": 1, **config, **kwargs}))


def there(batch) -> list[torch.Tensor]:
    """Its tensors: a batch of which nothing is cut has no targets."""
    return [part for part in batch if part is not None]


def on_host(batch):
    return type(batch)(*(part.cpu() for part in there(batch)))


def assert_same(one, two, what):
    assert len(one) == len(two), f"{what}: {len(one)} and {len(two)} batches"
    for k, (a, b) in enumerate(zip(one, two, strict=True)):
        assert len(there(a)) == len(there(b)), f"{what}: batch {k} has other parts"
        for name, one_part, two_part in zip(a._fields, there(a), there(b), strict=False):
            assert torch.equal(one_part, two_part), f"{what}: {name} of batch {k} differs"


def test_test_order_is_sequential_and_frames_are_the_events(data):
    got = all_of(data, settings(), epoch=None)
    assert torch.cat([b.index_B for b in got]).tolist() == list(range(13))
    assert torch.cat([b.label_B for b in got]).tolist() == data.labels.tolist()
    for batch in got:
        T, B, C = batch.x.shape
        assert (B, C, batch.x.dtype) == (len(batch.index_B), 140, torch.float32)
        lengths = [int(data[i][0].t_us.max()) // 10_000 + 1 for i in batch.index_B.tolist()]
        assert max(lengths) == T, f"padded to {T}, the longest clip has {max(lengths)}"
        for b, i in enumerate(batch.index_B.tolist()):
            events = data[i][0]
            want = np.zeros((T, C), np.float32)
            np.add.at(want, (events.t_us // 10_000, events.x // 5), 1)
            assert np.array_equal(batch.x[:, b].numpy(), want), f"clip {i}"


def test_training_order_is_a_permutation_that_changes_with_the_epoch(data):
    seen = [torch.cat([b.index_B for b in all_of(data, settings(), epoch=e)]) for e in (0, 1)]
    for index in seen:
        assert sorted(index.tolist()) == list(range(13)), "a clip is lost or doubled"
    assert not torch.equal(*seen), "two epochs have one order"


def test_targets_are_the_labels_of_what_a_clip_is_made_of(data):
    whole, n_mixed = all_of(data, settings(mix=1.0)), 0
    assert all(batch.target_BN is None for batch in whole), "a blend has one label"
    for batch in all_of(data, settings(mix=0.3, cutmix=0.8)):
        target_BN = batch.target_BN
        assert target_BN.shape == (len(batch.label_B), len(data.classes))
        assert torch.allclose(target_BN.sum(1), torch.ones(len(target_BN)))
        n_mixed += int(((target_BN > 0).sum(1) == 2).sum())
        assert (target_BN > 0).sum(1).max() <= 2, "of more than two labels"
    assert n_mixed > 0, "this test must cut something"
    for batch in all_of(data, settings(cutmix=1e-9)):
        one_hot = torch.nn.functional.one_hot(batch.label_B, len(data.classes))
        assert torch.equal(batch.target_BN, one_hot.float()), "nothing was cut"
    assert all_of(data, settings(cutmix=0.8), epoch=None)[0].target_BN is None


@MANY
@pytest.mark.parametrize("augmented", [{}, AUGMENTED, CUT], ids=["plain", "augmented", "cut"])
def test_same_samples_for_any_number_of_workers(data, augmented):
    want = all_of(data, settings(**augmented))
    for workers in (2, 5) if augmented else (2,):
        got = all_of(data, settings(workers=workers, **augmented))
        assert_same(got, want, f"{workers} workers")


ALL = {
    "aug_time_scale": 0.2, "aug_time_jitter_ms": 5, "aug_unit_scale": 0.1, "aug_unit_jitter": 4,
    "aug_time_mask_ms": 60, "aug_unit_mask": 90, **AUGMENTED["amounts"],
}  # fmt: skip
SETTINGS = {
    "as stored": dict(epoch=None),
    "shuffled": dict(),
    "events": dict(framing="event"),
    "published events": dict(framing="event-published"),
    "cut": dict(n_steps=30, amounts=ALL, mix=0.5),
    "augmented": dict(amounts=ALL, mix=0.5),
    "augmented events": dict(amounts=ALL, mix=0.5, framing="event"),
    "cut from others": CUT,
    "only cut": dict(cutmix=1.0, framing="event"),
    "drop alone": dict(amounts={"aug_drop": 0.5}),
    "mixed alone": dict(mix=1.0),
    "scaled": dict(amounts={"aug_time_scale": 0.5}),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("ahead", [False, True])
def test_held_clips_make_the_same_batches(data, name, ahead):
    """From the memory of a device as from the file; lengths found ahead of an epoch, as on a GPU,
    or as each batch is made."""
    part = data.subset(np.array([3, 0, 12, 7, 9, 1, 5]))
    config = settings(**SETTINGS[name])
    want = all_of(part, config)
    made = loader(part, **{"seed": 3, "epoch": 1, **config, "held": hold(part, DEVICE)})
    assert made.batches.ahead == (DEVICE.type == "cuda")
    made.batches.ahead = ahead or made.batches.ahead
    longest = made.longest()
    for _ in range(2):  # a loader can be iterated again
        got = list(made)
        assert {a.device.type for batch in got for a in there(batch)} == {DEVICE.type}
        assert_same([on_host(b) for b in got], want, name)
    assert longest in (None, max(len(b.x) for b in want)), f"{longest} steps are not the longest"
    assert longest is not None or not ahead


def test_held_clips_need_no_workers_and_no_file(data):
    held = hold(data, DEVICE)
    want = all_of(data, settings())
    data.source._clips, data.source.path = None, "gone.h5"
    got = all_of(data, settings(workers=2), held=held)
    assert_same([on_host(b) for b in got], want, "held")
    assert no_children()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SETTINGS)
def test_an_epoch_on_a_gpu_waits_once_at_most(data, name):
    """And its batches are those of the CPU."""
    held, config = hold(data, torch.device("cuda")), settings(**SETTINGS[name])
    want = all_of(data, config)
    made = loader(data, **{"seed": 3, "epoch": 1, **config, "held": held})
    made.longest()  # finds what the host must know
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = list(made)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same([on_host(b) for b in got], want, name)


def test_memory_that_clips_take(data):
    held = hold(data, DEVICE)
    taken = sum(a.numel() * a.element_size() for a in (held.t_us, held.unit))
    assert taken <= held_bytes(data), f"{taken} bytes, {held_bytes(data)} expected at most"
    assert (held.t_us.dtype, held.unit.dtype) == (torch.int32, torch.int16)


@pytest.mark.parametrize(("kind", "word"), [("empty", "no events"), ("unit", "0..699")])
def test_a_bad_clip_is_one_sentence_when_clips_are_held(tmp_path, kind, word):
    times, units = clips_s(8)
    if kind == "empty":
        times[6], units[6] = times[6][:0], units[6][:0]
    else:
        units[6][0] = 700
    path = write_file(tmp_path / "a.h5", times, units)
    with pytest.raises((DataError, EventFormatError), match=word) as caught:
        hold(open_clips(str(path)).subset(np.arange(1, 8)), DEVICE)
    message = str(caught.value)
    assert str(path) in message and "6" in message.replace(str(path), ""), message
    assert "\n" not in message, message


def test_a_clip_too_long_is_named_from_the_device(data):
    held = hold(data, DEVICE)
    made = loader(data, **settings(dt_ms=0.001), epoch=None, held=held)
    with pytest.raises(DataError, match=r"a\.h5:\d+: the clip lasts \d+ steps"):
        list(made)
    held.last_us[4] = 2**40
    with pytest.raises(DataError, match=r"a\.h5:4: the clip's last event comes at 1.09951e[+]06 s"):
        loader(data, **settings(framing="event"), epoch=None, held=held)


def test_a_clip_too_long_to_anchor_is_named_from_the_host_too(data, monkeypatch):
    monkeypatch.setitem(LONGEST_MS, "event", 20)
    with pytest.raises(DataError, match=r"a\.h5:\d+: the clip's last event comes at 0.498535 s"):
        list(loader(data, **settings(framing="event"), epoch=None))
    list(loader(data, **settings(), epoch=None))


@pytest.mark.parametrize("place", ["host", "device"])
def test_no_batch_is_empty_because_of_a_clock(tmp_path, place):
    times, units = clips_s(9)
    times[4] = times[4] + np.float16(3)
    clips = open_clips(str(write_file(tmp_path / "a.h5", times, units)))
    held = hold(clips, DEVICE) if place == "device" else None
    words = r"a\.h5:4: no event lies in the frames, which end at 1 s: the first comes at 3"
    with pytest.raises(DataError, match=words):
        list(loader(clips, **settings(n_steps=100), held=held))
    for fine in (dict(n_steps=None), dict(n_steps=100, framing="event")):
        made = loader(clips, **settings(**fine), held=held)
        assert all(batch.x.sum((0, 2)).all() for batch in made), fine


def test_large_file_is_read_clip_by_clip_in_workers(data):
    want = all_of(data, settings(), epoch=None)
    data.source.in_memory_bytes, data.source._clips = 0, None
    assert_same(all_of(data, settings(), epoch=None), want, "clip by clip")
    got = all_of(data, settings(workers=2), epoch=None)
    assert_same(got, want, "workers after the parent had the file open")


def test_augmentation_depends_on_seed_epoch_and_index_only(data):
    config = settings(n_steps=60, **AUGMENTED)

    def clips(**kwargs):
        found = {}
        for batch in all_of(data, config, **kwargs):
            for b, i in enumerate(batch.index_B.tolist()):
                found[i] = batch.x[:, b]
        return found

    base = clips()
    for name, same in ({"batch_size": 7}, True), ({"epoch": 2}, False), ({"seed": 4}, False):
        other = clips(**name)
        equal = sum(torch.equal(base[i], other[i]) for i in base)
        assert equal == (13 if same else 0), f"{name}: {equal} of 13 clips are equal"


def test_resume_in_the_middle_of_an_epoch(data):
    config = settings(**AUGMENTED)
    whole = all_of(data, config)
    for start in range(len(whole) + 1):
        rest = loader(data, **config, seed=3, epoch=1, start_batch=start)
        assert len(rest) == len(whole) - start
        assert_same(list(rest), whole[start:], f"from batch {start}")


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_left_alone(data, workers):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    all_of(data, settings(workers=workers, **AUGMENTED))
    assert torch.equal(torch.get_rng_state(), before[0]), "a number was drawn from torch"
    assert np.array_equal(np.random.get_state()[1], before[1]), "a number was drawn from numpy"


def test_n_steps_and_event_framing(data):
    for framing in ("grid", "event"):
        got = all_of(data, settings(n_steps=7, framing=framing), epoch=None)
        assert all(batch.x.shape[0] == 7 for batch in got), framing
    grid = sum(b.x.sum() for b in all_of(data, settings(framing="grid")))
    event = sum(b.x.sum() for b in all_of(data, settings(framing="event")))
    assert grid == event == sum(len(data[i][0]) for i in range(13)), "events got lost"


def no_children(within_s: float = 5) -> bool:
    end = time.monotonic() + within_s
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("kind", "word"), [("empty", "no events"), ("unit", "0..699")])
def test_bad_clip_is_one_sentence_with_file_and_clip(tmp_path, workers, kind, word):
    times, units = clips_s(8)
    if kind == "empty":
        times[6], units[6] = times[6][:0], units[6][:0]
    else:
        units[6][0] = 700
    path = write_file(tmp_path / "a.h5", times, units)
    data = open_clips(str(path))
    data.source.in_memory_bytes = 0
    with pytest.raises(DataError, match=word) as caught:
        all_of(data, settings(workers=workers), epoch=None)
    message = str(caught.value)
    assert str(path) in message, message
    assert "6" in message.replace(str(path), ""), message
    assert "\n" not in message, message
    assert ("loader worker 1" in message) == bool(workers), message
    assert no_children(), "worker processes are left"


class Bad:
    """A data set whose clip 2 fails in the given way."""

    classes, speakers, n_units = ["a"], None, 700
    labels = np.zeros(4, np.int64)

    def __init__(self, data, fail):
        self.data, self.fail = data, fail

    def __len__(self):
        return 4

    def __getitem__(self, i):
        if i == 2:
            self.fail()
        return self.data[i]

    def before_fork(self):
        pass


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def broken():
    os.kill(os.getpid(), signal.SIGSEGV)


def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)


def hanging():
    time.sleep(60)


def raising():
    raise OSError("disk is gone")


@pytest.mark.parametrize("fail", [killed, broken, stopped, hanging, raising])
def test_dead_hanging_or_raising_worker_is_one_error(data, fail):
    config, start = settings(workers=2, batch_size=2), time.monotonic()
    with pytest.raises(DataError, match="clip") as caught:
        list(loader(Bad(data, fail), **config, timeout_s=3))
    assert "worker 1" in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value), str(caught.value)
    assert time.monotonic() - start < 18, "it took longer than timeout + 15 s"
    assert no_children(), "worker processes are left"


def test_stopping_early_leaves_no_process(data):
    for _ in loader(data, **settings(workers=2), epoch=0):
        break
    assert no_children(), "worker processes are left"


def test_settings_that_cannot_work(data):
    with pytest.raises(DataError, match="does not divide"):
        loader(data, **settings(units_per_channel=3))
    with pytest.raises(ConfigError, match="did you mean aug_drop"):
        loader(data, **settings(amounts={"aug_drp": 0.1}))
    with pytest.raises(DataError, match="unknown framing 'grind': did you mean grid"):
        list(loader(data, **settings(framing="grind")))
    empty = Bad(data, raising)
    empty.__class__ = type("Empty", (Bad,), {"__len__": lambda self: 0})
    with pytest.raises(DataError, match="no clips"):
        loader(empty, **settings())
