"""Static images: every source, brightness, sizes, partners, and what a damaged one says."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snndelay.data.seeds import uniforms
from snndelay.data.vision.images import CHANNELS, Partners, find_images
from snndelay.errors import DataError


def rgb(seed: int, height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def npz(path: Path, **change: np.ndarray | None) -> Path:
    arrays = {
        "image": rgb(0, 12, 28)[..., 0].reshape(3, 4, 28),
        "label": np.array([2, 0, 2], np.uint8),
        "mnist_index": np.array([7, 60_001, 3]),
    }
    np.savez(path, **{k: v for k, v in (arrays | change).items() if v is not None})
    return path


def idx(path: Path, values: np.ndarray) -> None:
    lengths = np.array(values.shape, ">i4").tobytes()
    raw = bytes((0, 0, 8, values.ndim)) + lengths + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def test_a_tree_is_sorted_by_name_and_knows_its_identities(tmp_path):
    for name in (
        "zebra/b.png",
        "ant/image_0002.bmp",
        "ant/image_0001.png",
        "cat/x.JPG",
        "cat/y.tif",
    ):
        write(tmp_path / name, rgb(0))
    for name in ("readme.txt", "ant/notes.txt", "ant/._image_0001.png", "dog/empty.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    images = find_images(tmp_path)
    assert images.classes == ["ant", "cat", "zebra"]
    assert images.identities == [
        "ant/image_0001", "ant/image_0002", "cat/x", "cat/y", "zebra/b",
    ]  # fmt: skip
    assert images.labels.tolist() == [0, 0, 1, 1, 2] and images.labels.dtype == np.int64
    assert len(images) == 5


def test_brightness_is_the_v_of_hsv_or_the_last_channel(tmp_path):
    pixels = rgb(1)
    write(tmp_path / "a/colour.png", pixels)
    write(tmp_path / "a/grey.png", pixels[..., 0])
    write(tmp_path / "a/deep.png", pixels[..., 0].astype(np.uint16) * 257)
    alpha = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 9, np.uint8)], axis=2)
    write(tmp_path / "a/see_through.png", alpha)
    v = np.array(Image.fromarray(pixels).convert("HSV"))[..., 2]
    grey = pixels[..., 0]
    for channel, colour in zip(CHANNELS, (v, pixels[..., 2]), strict=True):
        images = find_images(tmp_path, channel)
        for i, want in enumerate((colour, grey, grey, colour)):
            got = images.image(i)
            assert got.dtype == np.float32, f"{images.identities[i]} is {got.dtype}"
            assert np.allclose(got, want / 255, atol=1e-6), f"{channel} {images.identities[i]}"


def test_npz_and_its_identities(tmp_path):
    images = find_images(npz(tmp_path / "a.npz"))
    assert images.identities == ["mnist:7", "mnist:60001", "mnist:3"]
    assert images.classes == ["0", "1", "2"] and images.labels.tolist() == [2, 0, 2]
    assert images.image(1).shape == (4, 28) and images.image(1).max() <= 1
    named = npz(
        tmp_path / "b.npz",
        image=np.stack([rgb(i) for i in range(3)]),
        mnist_index=None,
        identity=np.array(["x", "y", "z"]),
        classes=np.array(["ant", "bee", "cat"]),
    )
    images = find_images(named, "last")
    assert images.identities == ["x", "y", "z"] and images.classes == ["ant", "bee", "cat"]
    assert np.allclose(images.image(2), rgb(2)[..., 2] / 255)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mnist_index": None}, "which image"),
        ({"label": None}, "lacks the array 'label'"),
        ({"label": np.array([0, 1])}, "one integer label"),
        ({"label": np.array([0.0, 1, 2])}, "one integer label"),
        ({"label": np.array([0, -1, 2])}, "labels -1"),
        ({"image": np.zeros((3, 4, 4))}, "not uint8"),
        ({"image": np.zeros((3, 4, 4, 2), np.uint8)}, "not uint8"),
        ({"mnist_index": np.arange(4)}, r"identities \(4,\)"),
        ({"classes": np.array(["only", "two"])}, "do not fit 2 classes"),
        ({"classes": np.array("one")}, "do not fit 1 classes"),
        ({"label": np.array([0, 2**33, 2])}, "label 8589934592: number the classes from 0 on"),
        ({"label": np.array([0, 2**64 - 1, 2], np.uint64)}, "number the classes from 0 on"),
        ({"mnist_index": np.array(7)}, r"identities \(\)"),
        ({"mnist_index": np.array([None, 1, 2])}, "save numbers"),
        ({"image": np.zeros((3, 0, 4), np.uint8)}, "no images"),
        (
            {"image": np.zeros((0, 4, 4), np.uint8), "label": np.array([], int),
             "mnist_index": np.array([], int)},
            "no images",
        ),
    ],
)  # fmt: skip
def test_npz_that_lacks_something(tmp_path, change, word):
    with pytest.raises(DataError, match=word):
        find_images(npz(tmp_path / "a.npz", **change))


@pytest.mark.parametrize("ending", ["idx{}-ubyte", "idx{}-ubyte.gz"])
def test_mnist_files(tmp_path, ending):
    for prefix, n in (("train", 5), ("t10k", 2)):
        idx(
            tmp_path / f"{prefix}-images-{ending.format(3)}",
            rgb(n, n * 4, 6)[..., 0].reshape(n, 4, 6),
        )
        idx(tmp_path / f"{prefix}-labels-{ending.format(1)}", np.arange(n))
    images = find_images(tmp_path)
    assert images.identities == [*(f"mnist:{i}" for i in range(5)), "mnist:60000", "mnist:60001"]
    assert images.labels.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert np.allclose(images.image(6), rgb(2, 8, 6)[4:, :, 0] / 255)


def test_mnist_files_that_are_not_whole(tmp_path):
    image_file = tmp_path / "train-images-idx3-ubyte"
    idx(image_file, np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match="no train-labels"):
        find_images(tmp_path)
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(4))
    with pytest.raises(DataError, match="3 images but 4 labels"):
        find_images(tmp_path)
    whole = image_file.read_bytes()
    for end in range(len(whole)):
        image_file.write_bytes(whole[:end])
        with pytest.raises(DataError, match=f"{image_file.name} cannot be read"):
            find_images(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:20])
    with pytest.raises(DataError, match="cannot be read"):
        find_images(tmp_path)


def test_places_without_images(tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 not a zip")
    for path, word in (
        (tmp_path, "class folders"),
        (tmp_path / "none", "no folder or file"),
        (tmp_path / "a.txt", "neither"),
        (tmp_path / "a.npz", "cannot be read"),
    ):
        with pytest.raises(DataError, match=word) as error:
            find_images(path)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="channel 'h'"):
        find_images(tmp_path, "h")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif", ".pgm"])
def test_damaged_image_files_are_named(tmp_path, ending):
    path = write(tmp_path / f"a/image{ending}", rgb(0, 40, 40)[..., 0])
    raw = path.read_bytes()
    for damaged in (b"", raw[:10], raw[: len(raw) // 2], bytes(len(raw)), b"no image at all"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"image{ending} cannot be read") as error:
            find_images(tmp_path).image(0)
        assert "\n" not in str(error.value)


def test_an_image_is_resized_before_its_colours_become_one_brightness(tmp_path):
    """V of the small image, not the small image of V: max(R, G, B) after Pillow's bilinear."""
    pixels = rgb(3, 60, 40)
    file = npz(tmp_path / "a.npz", image=pixels[None], label=np.zeros(1, int), mnist_index=[0])
    small = Image.fromarray(pixels).resize((12, 20), Image.Resampling.BILINEAR)
    for channel, want in (("v", np.asarray(small).max(2)), ("last", np.asarray(small)[..., 2])):
        got = find_images(file, channel).frames(0, (20, 12))
        assert np.array_equal(got, want.astype(np.float32) / 255), channel


def test_placed_digits_keep_their_pixels(tmp_path):
    pixels = rgb(0, 56, 28)[..., 0].reshape(2, 28, 28)
    file = npz(tmp_path / "a.npz", image=pixels, label=np.array([0, 1]), mnist_index=np.arange(2))
    images = find_images(file)
    frame = images.frames(1, (34, 34), "place")
    assert np.array_equal(frame[3:31, 3:31], images.image(1))
    frame[3:31, 3:31] = 0
    assert not frame.any(), "something lies outside the digit"
    assert np.array_equal(images.frames(1, (28, 28)), images.image(1))
    assert images.frames(1, (48, 40), "place").shape == (48, 40)
    with pytest.raises(DataError, match="fit 'stretch'"):
        images.frames(1, (34, 34), "stretch")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 99))
def test_partners_are_of_the_class(labels, seed):
    labels, rng = np.array(labels), np.random.default_rng(seed)
    wanted = rng.choice(labels, 20)
    partners = Partners(labels, list("abcd"), wanted)
    u_B = np.concatenate([rng.random(18), [0, 1 - 2**-53]])
    drawn = partners.draw(wanted, u_B)
    for label, u, i in zip(wanted, u_B, drawn, strict=True):
        members = [k for k in range(len(labels)) if labels[k] == label]
        assert i == members[int(u * len(members))], f"image {i} for class {label} and {u}"


def test_partners_are_equally_likely():
    labels, classes = np.array([2, 0, 2, 2, 0]), ["ant", "bee", "cat"]
    partners = Partners(labels, classes, np.array([2, 0, 0]))
    u_B = uniforms("partner", 0, 0, np.arange(3000), 1)[:, 0]
    for label, members in ((2, [0, 2, 3]), (0, [1, 4])):
        counts = np.bincount(partners.draw(np.full(3000, label), u_B), minlength=5)
        assert counts[members].sum() == 3000, f"drawn {counts} times"
        expected = 3000 / len(members)
        assert abs(counts[members] - expected).max() < 4 * expected**0.5, f"drawn {counts} times"
    with pytest.raises(DataError, match="class 'bee' has no static image"):
        Partners(labels, classes, np.array([0, 1]))


def test_the_fingerprint_follows_every_change(tmp_path):
    base = find_images(npz(tmp_path / "a.npz")).fingerprint()
    assert base == find_images(npz(tmp_path / "a.npz")).fingerprint()
    image = rgb(1, 12, 28)[..., 0].reshape(3, 4, 28)
    for change in (
        {"image": image},
        {"label": np.array([1, 0, 2])},
        {"mnist_index": np.arange(3)},
    ):
        other = find_images(npz(tmp_path / "a.npz", **change)).fingerprint()
        assert other != base, f"{list(change)} is not in it"
    assert find_images(npz(tmp_path / "a.npz"), "last").fingerprint() != base
    write(tmp_path / "tree/a/b.png", rgb(0))
    before = find_images(tmp_path / "tree").fingerprint()
    write(tmp_path / "tree/a/b.png", rgb(0, 30, 30))
    assert find_images(tmp_path / "tree").fingerprint() != before
