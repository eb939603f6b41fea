"""Batches of frames: order, placing and augmentation."""

import numpy as np
import pytest
import torch

from snndelay.data.audio.augment import DRAWS
from snndelay.data.audio.dense import AMOUNTS, augmented, frame_loader
from snndelay.data.audio.log_mel import SILENCE_DB
from snndelay.data.audio.waves import FrameSet
from snndelay.data.batches import epoch_batches
from snndelay.errors import ConfigError, DataError

N, T, C = 13, 11, 7
ALL = {
    "aug_time_scale": 0.2, "aug_time_shift_ms": 30.0, "aug_unit_scale": 0.3, "aug_unit_shift": 2.0,
    "aug_time_mask_ms": 40.0, "aug_unit_mask": 3.0,
}  # fmt: skip


def frames(**changes):
    x_NTC = torch.randn(N + 2, T, C, generator=torch.Generator().manual_seed(0)) * 20
    place = np.random.default_rng(0).permutation(N + 2)[:N]
    names = [f"{k}.wav" for k in range(N)]
    how = dict(labels=np.arange(N) % 3, classes=["a", "b", "c"], speakers=None) | changes
    return FrameSet("some", x_NTC, place, names, **how)


def loaded(clips, **how):
    return [*frame_loader(clips, **dict(batch_size=4, dt_ms=10.0) | how)]


def drawn(**values):
    """What one clip draws, (K, 1): 0.5, the middle, but for `values`."""
    return torch.tensor([[values.get(name, 0.5)] for name in DRAWS], dtype=torch.float64)


def test_batches_hold_the_frames_in_order():
    clips = frames()
    batches = loaded(clips)
    assert [b.x.shape for b in batches] == [(T, 4, C)] * 3 + [(T, 1, C)]
    x_NTC = torch.cat([b.x for b in batches], 1).transpose(0, 1)
    assert torch.equal(x_NTC, clips.frames[torch.from_numpy(clips.place)])
    assert torch.cat([b.label_B for b in batches]).tolist() == clips.labels.tolist()
    assert all(b.x.dtype == torch.float32 and b.x.is_contiguous() for b in batches)
    turned = torch.cat([b.x for b in loaded(frames(reverse=True))], 1).transpose(0, 1)
    assert torch.equal(turned, x_NTC.flip(1))


@pytest.mark.parametrize("amounts", [{}, ALL])
def test_workers_and_where_an_epoch_starts_change_nothing(amounts):
    clips = frames()
    how = dict(seed=3, epoch=2, amounts=amounts)
    one = loaded(clips, **how)
    wanted = epoch_batches(clips.labels, 4, 3, 2)
    assert [b.index_B.tolist() for b in one] == [part.tolist() for part in wanted]
    for other, skipped in (
        (loaded(clips, workers=2, **how), 0),
        (loaded(clips, start_batch=2, **how), 2),
    ):
        for a, b in zip(one[skipped:], other, strict=True):
            assert torch.equal(a.x, b.x) and torch.equal(a.index_B, b.index_B)
    assert not torch.equal(one[0].x, loaded(clips, seed=3, epoch=3, amounts=amounts)[0].x)


def test_a_longer_or_shorter_batch():
    clips = frames()
    longer, shorter = (loaded(clips, n_steps=n)[0].x for n in (T + 2, T - 3))
    assert longer.shape == (T + 2, 4, C) and (longer[T:] == SILENCE_DB).all()
    assert torch.equal(shorter, longer[: T - 3])
    assert frame_loader(clips, batch_size=4, dt_ms=10.0).longest() == T


def test_half_precision_frames_come_as_float32():
    clips = frames()
    half = FrameSet(**{**vars(clips), "frames": clips.frames.half()})
    assert torch.equal(loaded(half)[0].x, loaded(clips)[0].x.half().float())


def test_no_amount_moves_nothing():
    x_BTC = frames().frames[:1]
    rng = {name: float(u) for name, u in zip(DRAWS, torch.rand(len(DRAWS)), strict=True)}
    assert torch.equal(augmented(x_BTC, {}, drawn(**rng), 10.0), x_BTC)


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_shifts_are_of_whole_frames_and_channels(u):
    x_BTC = frames().frames[:1]
    moved = augmented(x_BTC, {"aug_time_shift_ms": 30.0}, drawn(time_shift=u), 10.0)
    if u:
        assert torch.equal(moved[:, 3:], x_BTC[:, :-3]) and (moved[:, :3] == SILENCE_DB).all()
    else:
        assert torch.equal(moved[:, :-3], x_BTC[:, 3:]) and (moved[:, -3:] == SILENCE_DB).all()
    moved = augmented(x_BTC, {"aug_unit_shift": 2.0}, drawn(unit_shift=u), 10.0)
    kept, gone = (moved[..., 2:], moved[..., :2]) if u else (moved[..., :-2], moved[..., -2:])
    wanted = x_BTC[..., :-2] if u else x_BTC[..., 2:]
    assert torch.equal(kept, wanted) and (gone == SILENCE_DB).all()


def test_a_stretch_takes_the_nearest_frame():
    x_BTC = frames().frames[:1]
    slow = augmented(x_BTC, {"aug_time_scale": 0.5}, drawn(time_scale=1.0), 10.0)
    place = (torch.arange(T).double() / 1.5).round().long()
    assert torch.equal(slow[0], x_BTC[0, place])
    wide = augmented(x_BTC, {"aug_unit_scale": 0.5}, drawn(unit_scale=0.0), 10.0)
    place = ((torch.arange(C).double() - 3) / 0.5 + 3).round().long()
    inside = (place >= 0) & (place < C)
    assert torch.equal(wide[..., inside], x_BTC[..., place[inside]])
    assert (wide[..., ~inside] == SILENCE_DB).all() and 0 < inside.sum() < C


def test_masks_silence_a_stretch_and_a_band():
    x_BTC = frames().frames[:1]
    made = augmented(
        x_BTC, {"aug_time_mask_ms": 40.0},
        drawn(time_mask_start=2 / T, time_mask_length=1.0), 10.0,
    )  # fmt: skip
    gone = (made == SILENCE_DB).all(-1)[0]
    assert gone.nonzero()[:, 0].tolist() == [2, 3, 4, 5]
    assert torch.equal(made[:, ~gone], x_BTC[:, ~gone])
    made = augmented(
        x_BTC, {"aug_unit_mask": 3.0},
        drawn(unit_mask_start=4 / C, unit_mask_width=1.0), 10.0,
    )  # fmt: skip
    assert (made == SILENCE_DB).all(1)[0].nonzero()[:, 0].tolist() == [4, 5, 6]


@pytest.mark.parametrize("name", ["aug_drop", "aug_unit_jitter", "aug_time_jitter_ms"])
def test_what_is_done_to_single_events_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is of single events"):
        frame_loader(frames(), batch_size=4, dt_ms=10.0, amounts={name: 0.1})
    assert name not in AMOUNTS
    assert loaded(frames(), amounts={name: 0.0}), "an amount of 0 is none"
    with pytest.raises(ConfigError, match="aug_mix is of single events"):
        frame_loader(frames(), batch_size=4, dt_ms=10.0, mix=0.5)


def test_no_clip_and_no_augmentation():
    empty = FrameSet("none", torch.zeros(0, T, C), np.zeros(0, int), [], np.zeros(0, int), [], None)
    with pytest.raises(DataError, match="no clips"):
        frame_loader(empty, batch_size=4, dt_ms=10.0)
    with pytest.raises(ConfigError, match="did you mean aug_unit_mask"):
        frame_loader(frames(), batch_size=4, dt_ms=10.0, amounts={"aug_unit_maks": 1.0})
