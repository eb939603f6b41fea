"""Recordings and images as frames, and the batches of both."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

from snndelay.data.batches import balanced, order
from snndelay.data.catalog import open_images, open_recordings
from snndelay.data.events import Events
from snndelay.data.seeds import uniforms
from snndelay.data.vision.atis import write_atis
from snndelay.data.vision.augment import (
    AUGMENTATIONS,
    DRAWS,
    MORE_DRAWS,
    Changes,
    amounts_of,
    augment,
    change,
    changes,
    moves,
)
from snndelay.data.vision.filters import Filters, filtered
from snndelay.data.vision.frames import frames
from snndelay.data.vision.framing import Framing
from snndelay.data.vision.images import Partners
from snndelay.data.vision.loader import (
    Sequences,
    StaticPool,
    image_frames,
    loader,
    recording_frames,
)
from snndelay.data.vision.sliding import slide
from snndelay.errors import ConfigError, DataError

from ...helpers_capture import DEVICE, Watch, absent_device
from ...helpers_vision import SIDE, write_tiny_vision

FRAMING = Framing(n_steps=4)
AUGMENTED = {"aug_crop": 2, "aug_flip": 0.5, "aug_rotate": 10.0}
CHANGED = {
    **{"aug_time_shift": 2, "aug_polarity": 0.5, "aug_cutout": 9, "aug_time_mask": 2},
    **{"aug_drop": 0.3, "aug_noise": 0.05},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    recordings, images = write_tiny_vision(tmp_path_factory.mktemp("tiny"))
    return open_recordings(recordings), open_images(images)


@pytest.fixture(scope="module")
def sets(data):
    """(frames of the recordings, pool of their images)."""
    recordings, images = data
    events = recording_frames(recordings, FRAMING, None)
    shown = image_frames(images, recordings.size, events, FRAMING)
    return events, StaticPool(shown, Partners(shown.labels, shown.classes, events.labels))


def test_frames_are_those_of_each_recording(data, sets):
    recordings, _ = data
    events, _ = sets
    assert (len(events), events.steps, events.size) == (27, 4, (SIDE, SIDE))
    for i in range(len(recordings)):
        want = frames(recordings[i][0], recordings.size, "time_bins", 4)
        assert np.array_equal(events.sequence(i), want), f"recording {i}"
    part = events.subset(np.arange(20, 0, -1)).subset(np.array([3]))
    assert np.array_equal(part.sequence(0), events.sequence(17)) and part.labels == [1]


@pytest.mark.parametrize(
    ("framing", "shape"),
    [
        (Framing("event_count", None, events_per_step=20), (4, 2, SIDE, SIDE)),
        (Framing("time_window", 3, dt_ms=40.0), (3, 2, SIDE, SIDE)),
        (Framing("time_bins", 2, frame_size=8), (2, 2, 8, 8)),
        (Framing("time_window", 3, dt_ms=40.0, stride_ms=20.0), (3, 2, SIDE, SIDE)),
        (Framing("time_surface", 3, dt_ms=40.0, surface="sum"), (3, 2, SIDE, SIDE)),
        (Framing("voxel_grid", 5, voxel="signed"), (5, 2, SIDE, SIDE)),
        (Framing(n_steps=2, filters=Filters(shrink=3)), (2, 2, 6, 6)),
    ],
)
def test_every_framing(data, framing, shape):
    recordings, _ = data
    assert recording_frames(recordings, framing, None).sequence(5).shape == shape


def test_frames_are_kept_in_the_folder_for_each_framing(data, tmp_path):
    recordings, _ = data
    first = recording_frames(recordings, FRAMING, tmp_path)
    unread = replace(recordings, read=lambda i: pytest.fail("a recording was read again"))
    again = recording_frames(unread, FRAMING, tmp_path)
    assert np.array_equal(first.frames, again.frames)
    recording_frames(recordings, FRAMING._replace(n_steps=3), tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_images_are_shown_still_or_as_recordings(data, sets, tmp_path):
    recordings, images = data
    events, pool = sets
    still = pool.images.sequence(4)
    assert still.shape == (4, 2, SIDE, SIDE) and (still == still[:1, :1]).all()
    assert np.array_equal(still[0, 0], images.frames(4, (SIDE, SIDE)))
    placed = image_frames(images, recordings.size, events, FRAMING, static_fit="place")
    assert not np.array_equal(placed.sequence(4), still)
    moved = image_frames(images, recordings.size, events, FRAMING, "saccade", folder=tmp_path)
    x_TPHW = moved.sequence(4)
    assert x_TPHW.shape == still.shape and not (x_TPHW == x_TPHW[:1, :1]).all()
    with pytest.raises(DataError, match="shown as image or saccade, not as 'video'"):
        image_frames(images, recordings.size, events, FRAMING, "video")


def test_as_stored_is_in_order_and_not_augmented(sets):
    events, _ = sets
    got = list(loader(events, None, batch_size=4, **AUGMENTED))
    assert [len(batch.label_B) for batch in got] == [4] * 6 + [3]
    assert torch.cat([batch.index_B for batch in got]).tolist() == list(range(27))
    for batch in got:
        assert batch.static is None and batch.x.dtype == torch.float32
        assert batch.x.permute(0, 1, 3, 4, 2).is_contiguous(), "channels are last in memory"
        for b, i in enumerate(batch.index_B.tolist()):
            assert np.array_equal(batch.x[:, b].numpy(), events.sequence(i)), f"recording {i}"
            assert batch.label_B[b] == events.labels[i]


def test_strides_are_those_of_channels_last(sets):
    for amounts in ({}, {"aug_crop": 1}, AUGMENTED):
        for batch in loader(*sets, batch_size=5, epoch=0, **amounts):
            for x in (batch.x, batch.static):
                _, B, P, H, W = x.shape
                assert x.stride() == (B * H * W * P, H * W * P, 1, W * P, P)


def test_partners_are_images_of_the_class_of_each_recording(sets):
    events, pool = sets
    made = loader(events, pool, batch_size=5, seed=3, epoch=1)
    got = list(made)
    assert len(made) == len(got) == 6
    index = torch.cat([batch.index_B for batch in got])
    assert index.tolist() == order(27, 3, 1).tolist(), "not the order of the epoch"
    of_class = [np.flatnonzero(pool.images.labels == label) for label in range(3)]
    for batch in got:
        for b, label in enumerate(batch.label_B.tolist()):
            choice = [pool.images.sequence(j) for j in of_class[label]]
            assert any(np.array_equal(batch.static[:, b].numpy(), x) for x in choice)


def samples(sets, **arguments) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """index -> its sequence and its partner's in one epoch."""
    made = loader(*sets, **{"batch_size": 4, "seed": 3, "epoch": 1} | AUGMENTED | arguments)
    return {
        i: (batch.x[:, b], batch.static[:, b])
        for batch in made
        for b, i in enumerate(batch.index_B.tolist())
    }


def test_a_sample_depends_on_seed_epoch_and_index_only(sets):
    base = samples(sets)
    for other_how, same in (({"batch_size": 9}, 27), ({"epoch": 2}, 0), ({"seed": 4}, 0)):
        other = samples(sets, **other_how)
        recordings, partners = (
            sum(torch.equal(base[i][part], other[i][part]) for i in base) for part in (0, 1)
        )
        assert recordings == same, f"{other_how}: {recordings} of 27 recordings are equal"
        assert (partners == 27) == (same == 27), f"{other_how}: {partners} of 27 partners are equal"


def test_a_recording_drawn_twice_in_an_epoch_moves_anew(sets):
    """Class-balanced sampling draws with replacement: each draw has numbers of its own."""
    events, pool = sets
    few = events.subset(np.flatnonzero(events.labels == 0)[:2])
    made = loader(few, pool, batch_size=2, epoch=0, sampling="class-balanced", **AUGMENTED)
    repeated = 0
    for epoch in range(20):
        (batch,) = replace(made, parts=[balanced(few.labels, 0, epoch)], epoch=epoch)
        if batch.index_B[0] == batch.index_B[1]:
            repeated += 1
            assert batch.draw_B.tolist() == [batch.index_B[0], batch.index_B[0] + 2]
            assert not torch.equal(batch.x[:, 0], batch.x[:, 1])
    assert repeated > 4


def naive(sets, i: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of recording i and its partner, one sample at a time, by their definition."""
    events, pool = sets
    at = np.array([i])
    members = np.flatnonzero(pool.images.labels == events.labels[i])
    j = members[int(uniforms("partner", seed, epoch, at, 1)[0, 0] * len(members))]
    made = []
    for stream, source, k in (("augment_event", events, i), ("augment_static", pool.images, j)):
        x_TPHW = source.sequence(k)
        if source.frames.ndim > 3:  # a still image stays as it is
            table = moves(uniforms(stream, seed, epoch, at, DRAWS), 2, 0.5, 10.0)
            x_TPHW = augment(torch.from_numpy(x_TPHW.copy())[:, None], table)[:, 0].numpy()
        made.append(x_TPHW)
    return made[0], made[1]


def test_a_batch_holds_what_each_sample_is_alone(sets):
    for i, (event, static) in samples(sets).items():
        wanted = naive(sets, i, 3, 1)
        for name, got, want in zip(("recording", "partner"), (event, static), wanted, strict=True):
            assert np.array_equal(got.numpy(), want), f"{name} {i}"


PLACES = ("host", "device", "auto")


@pytest.mark.parametrize(
    "amounts",
    [{}, {"aug_crop": 2}, AUGMENTED, CHANGED, AUGMENTED | CHANGED | {"aug_one": True}],
    ids=len,
)
@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)], ids=str
)  # fmt: skip
def test_batches_are_the_same_wherever_the_frames_lie(data, tmp_path, device, amounts, still):
    recordings, images = data
    place = torch.device(device)
    events = recording_frames(recordings, FRAMING, tmp_path)
    shown = image_frames(images, recordings.size, events, FRAMING, "image" if still else "saccade")
    pool = StaticPool(shown, Partners(shown.labels, shown.classes, events.labels))
    how = {"batch_size": 4, "seed": 3, "epoch": 1} | amounts
    want = list(loader(events, pool, **how))
    for x in PLACES:
        there = replace(pool, images=shown.placed(place, x))
        got = loader(events.placed(place, x), there, device=place, **how)
        for batch, other in zip(want, got, strict=True):
            assert other.index_B.device.type == "cpu", "the host must know which samples these are"
            for name, one in batch._asdict().items():
                two = getattr(other, name)
                assert two.device.type == (device if name != "index_B" else "cpu")
                assert one.stride() == two.stride() and one.dtype == two.dtype, f"{x}: {name}"
                assert torch.equal(one, two.cpu()), f"{x}: {name} differs"


@pytest.mark.parametrize("shape", [(30, 4, 2, 9, 12), (30, 9, 12)], ids=["recordings", "images"])
@pytest.mark.parametrize("turned", [True, False])
def test_making_a_batch_stays_on_the_device(shape, turned):
    with absent_device(), Watch():
        frames = torch.empty(shape, dtype=torch.uint8, device=DEVICE)
        at_N = torch.empty(30, dtype=torch.int64, device=DEVICE)
        moves_N5 = torch.empty(30, 5, dtype=torch.float64, device=DEVICE)
        made = Sequences(frames, 4, at_N, moves_N5, turned, DEVICE)
        x = made.batch(slice(5, 12))
    assert x.shape == (4, 7, 2, 9, 12) and x.dtype == torch.float32


def test_changing_a_batch_stays_on_the_device():
    with FakeTensorMode():  # the reference draws the words: Triton's are no registered op
        how_N9 = torch.empty(30, 9, dtype=torch.int64, device=DEVICE)
        draw_N = torch.empty(30, dtype=torch.int64, device=DEVICE)
        x = torch.empty((4, 7, 2, 9, 12), dtype=torch.uint8, device=DEVICE)
        how = Changes(frozenset(CHANGED), how_N9, draw_N, "cell_event", 1, 2).part(slice(5, 12))
        with Watch():
            got = change(x, how)
    assert got.shape == x.shape and got.dtype == torch.float32


@pytest.mark.gpu
def test_an_epoch_waits_for_nothing(sets):
    events, pool = sets
    place = torch.device("cuda")
    on = replace(pool, images=pool.images.placed(place))
    for placed in (events.placed(place), events):  # frames on the device, and on the host
        made = loader(placed, on, batch_size=4, epoch=0, device=place, **AUGMENTED)
        list(made)  # the first makes what CUDA needs
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in made:
                slide(batch, 0.5, 0, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("one", [False, True])
def test_a_batch_is_changed_as_its_samples_draw(sets, one):
    """Whatever batch a recording comes in, it is changed as it is alone."""
    events, _ = sets
    amounts = AUGMENTED | CHANGED
    assert set(amounts) == set(AUGMENTATIONS), "this test must cover every augmentation"
    how = {"seed": 3, "epoch": 1, **amounts, "aug_one": one}
    changed = 0
    for batch in loader(events, None, batch_size=6, **how):
        for b, i in enumerate(batch.index_B.tolist()):
            u_1K = uniforms("augment_event", 3, 1, np.array([i]), DRAWS + MORE_DRAWS)
            mine = amounts_of(amounts, u_1K[:, -1], one)
            moving = (mine[name] for name in ("aug_crop", "aug_flip", "aug_rotate"))
            x = torch.from_numpy(events.sequence(i)[:, None])
            x = augment(x, moves(u_1K[:, :DRAWS], *moving))
            how_19 = changes(u_1K[:, DRAWS:], mine, 4, events.size)
            at = torch.tensor([i])
            x = change(x, Changes(frozenset(amounts), how_19, at, "cell_event", 3, 1))
            assert torch.equal(batch.x[:, b], x[:, 0]), f"recording {i}"
            changed += not np.array_equal(x[:, 0].numpy(), events.sequence(i))
    assert (10 < changed < 27) if one else (changed == 27), f"{changed} of 27 changed"


def test_an_amount_of_no_augmentation_is_refused(sets):
    with pytest.raises(ConfigError, match="did you mean aug_cutout"):
        loader(sets[0], None, batch_size=4, aug_cutuot=3)


def test_recording_and_partner_are_augmented_apart(sets):
    one = {"aug_crop": 0, "aug_rotate": 0.0}
    plain, flipped = samples(sets, aug_flip=0.0, **one), samples(sets, aug_flip=0.5, **one)
    turned = [[not torch.equal(plain[i][k], flipped[i][k]) for i in plain] for k in (0, 1)]
    assert 0 < sum(turned[0]) < 27 and turned[0] != turned[1]


def recording(folder, times_us):
    folder.mkdir(parents=True, exist_ok=True)
    zeros = np.zeros(len(times_us), np.int64)
    write_atis(folder / "r.bin", Events(np.asarray(times_us, np.int64), zeros, zeros, zeros))


WINDOW = Framing("time_window", 10, 10.0)


@pytest.mark.parametrize(
    ("times_us", "share"),
    [
        (np.arange(100) * 1000, 1.0),
        (np.arange(200) * 1000, 0.5),
        (5_000_000 + np.arange(100) * 1000, "first event comes at 5000 ms, after the last"),
        (np.arange(100) * 10**6 + 10**6, "first event comes at 1000 ms"),  # ms taken for us
        ([], "the recording has no events; mend it, or leave"),
    ],
    ids=["all", "half", "starts at 5 s", "thousandfold", "empty"],
)
def test_frames_say_what_they_hold_and_never_hold_nothing(tmp_path, times_us, share):
    recording(tmp_path / "a", times_us)
    found = open_recordings(str(tmp_path), size=(4, 4))
    if isinstance(share, str):
        with pytest.raises(DataError, match=share):
            recording_frames(found, WINDOW, tmp_path / "cache")
        return
    for _ in range(2):  # made, and read from the cache
        made = recording_frames(found, WINDOW, tmp_path / "cache")
        assert (made.held.n_inside, made.held.n_events) == (100, 100 / share)


def test_windows_may_begin_with_the_first_event_of_each_recording(tmp_path):
    late = 5_000_000 + np.array([0, 9_999, 10_000, 99_999, 100_000])
    recording(tmp_path / "a", late)
    found = open_recordings(str(tmp_path), size=(4, 4))
    made = recording_frames(found, WINDOW._replace(time_zero="first-event"), None)
    per_step = made.sequence(0).sum((1, 2, 3)).tolist()
    assert per_step == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (made.held.n_inside, made.held.n_events) == (4, 5)
    with pytest.raises(DataError, match="give --time-zero first-event"):
        recording_frames(found, WINDOW, None)


def test_what_filters_take_is_said_and_kept_with_the_frames(data, tmp_path):
    recordings, _ = data
    framing = Framing("time_window", 3, 20.0, filters=Filters(2.0, 5.0, 2, 3.0))
    n, taken = 0, np.zeros(3, np.int64)
    for i in range(len(recordings)):
        left, _, away = filtered(recordings[i][0], recordings.size, framing.filters)
        n, taken = n + len(left), taken + away
    for _ in range(2):  # made, and read from the folder
        made = recording_frames(recordings, framing, tmp_path)
        assert made.held is not None and made.held.n_events == n
        assert made.held.n_inside == int(made.frames.sum())
        (line,) = made.said
        assert line.startswith(f"filters took away, of {n + taken.sum():,} events: hot pixels")
        for name, k in zip(("noise", "thinning"), taken[1:].tolist(), strict=True):
            assert f"{name} {k:,} (" in line
    assert recording_frames(recordings, FRAMING, None).said == ()


@pytest.mark.parametrize(
    ("framing", "words"),
    [
        (Framing(filters=Filters(noise_ms=0.001)), "the filters take away all of its .* weaken"),
        (Framing("time_surface", 3, 900.0, surface_tau_ms=0.1), "raise --surface-tau-ms"),
    ],
)
def test_what_leaves_nothing_in_the_frames_says_why(data, framing, words):
    with pytest.raises(DataError, match=words):
        recording_frames(data[0], framing, None)


@pytest.mark.parametrize("framing", ["time_bins", "event_count"])
def test_a_clock_that_starts_at_an_epoch_date_changes_no_frame(framing):
    rng = np.random.default_rng(0)
    t, *xyp = np.sort(rng.integers(0, 10**6, 500)), *rng.integers(0, 2, (3, 500))
    at_zero, today = (frames(Events(t + start, *xyp), (4, 4), framing) for start in (0, 2 * 10**15))
    assert np.array_equal(at_zero, today) and at_zero.sum() == 500


def test_a_recording_mended_in_place_is_framed_anew(tmp_path):
    """With its size and its time kept, as `cp -p`, rsync and tar do."""
    file = tmp_path / "set" / "a" / "r.bin"
    recording(file.parent, np.arange(9) * 1000)
    first = recording_frames(open_recordings(str(tmp_path / "set")), FRAMING, tmp_path)
    state = file.stat()
    raw = bytearray(file.read_bytes())
    raw[2::5] = bytes(byte | 128 for byte in raw[2::5])  # the other polarity
    file.write_bytes(raw)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = recording_frames(open_recordings(str(tmp_path / "set")), FRAMING, tmp_path)
    for made, polarity in ((first, 0), (second, 1)):
        assert made.sequence(0).sum((0, 2, 3))[polarity] == 9


def test_what_is_no_class_is_none_and_links_are_followed(tmp_path):
    tree, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for folder in (tree / "a", tree / ".ipynb_checkpoints", tree / "__MACOSX", elsewhere):
        recording(folder, np.arange(9))
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "x.png")
    (tree / "b").symlink_to(elsewhere)
    assert open_recordings(str(tree)).names == ["a/r.bin", "b/r.bin"]
    assert open_images(tree).identities == ["a/x", "b/x"]
