"""The static domain: images with class and identity, from folders, arrays or MNIST files.

    images = find_images("images/")          # or an .npz file, or a folder with MNIST's four files
    images.frames(0, (48, 48))               # float32 (48, 48) in 0..1
    partners = Partners(images.labels, images.classes, recordings.labels)
    partners.draw(label_B, u_B)              # indices of random images of these classes

Shape suffixes: H row, W column, B samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import DataError, EventFormatError
from ..cache import stamp
from ..folders import class_files, numbered
from .image_files import ENDINGS, read_idx, read_image
from .resize import resize

CHANNELS = ("v", "last")
FITS = ("resize", "place")
STATIC_FORMS = ("image", "saccade")  # how the network sees one: still, or as a recording of it
COVERED = 28 / 34  # share of the sensor's field that an image covers: N-MNIST's digits
MOST_CLASSES = 1 << 16  # whose names are their numbers
MNIST_PARTS = (("train", 0), ("t10k", 60_000))  # file prefix, index of its first image


@dataclass(frozen=True)
class StaticImages:
    """Images of one data set.

    `labels` int64 (n,), index into `classes`. `identities`: which image it is; recordings of this
    image carry the same string. `source`: uint8 (n, H, W) or (n, H, W, 3), or n image files.
    `channel`: "v", the V of HSV, or "last", the last of red, green, blue (for the ablation).
    """

    labels: np.ndarray
    classes: list[str]
    identities: list[str]
    source: np.ndarray | Sequence[Path]
    channel: str = "v"

    def __len__(self) -> int:
        return len(self.labels)

    def of_classes(self, classes: list[str]) -> StaticImages:
        """The images of these classes, labelled by their place in `classes`; others are left out
        (Caltech101 has one class more than its recordings)."""
        place = {name: label for label, name in enumerate(classes)}
        label_n = np.array([place.get(self.classes[label], -1) for label in self.labels], np.int64)
        kept = np.flatnonzero(label_n >= 0)
        return replace(self.subset(kept), labels=label_n[kept], classes=classes)

    def subset(self, index: np.ndarray) -> StaticImages:
        """The images at `index`, int64 (m,), in that order; all classes stay."""
        images = self.source
        source = images[index] if isinstance(images, np.ndarray) else [images[i] for i in index]
        names = [self.identities[i] for i in index]
        return replace(self, labels=self.labels[index], identities=names, source=source)

    def pixels(self, i: int) -> np.ndarray:
        """Image `i` as it is stored, uint8 or uint16 (H, W) or (H, W, 3). Errors: DataError if it
        is damaged."""
        source = self.source[i]
        return read_image(source) if isinstance(source, Path) else source

    def image(self, i: int) -> np.ndarray:
        """Brightness of image `i`, float32 (H, W) in 0..1. Errors as `pixels`."""
        return brightness(self.pixels(i), self.channel)

    def frames(self, i: int, size: tuple[int, int], fit: str = "resize") -> np.ndarray:
        """Image `i` as float32 `size` (H, W) in 0..1, resized bilinearly (`resize`) before its
        colours become one brightness, as published.

        `fit` "resize": the image fills the frame. "place": it covers 28/34 of it, in the middle of
        zeros, as a sensor of that size sees it: a 28 x 28 digit is placed 1:1 in 34 x 34.
        """
        if fit not in FITS:
            raise DataError(f"there is no fit {fit!r}: use {' or '.join(FITS)}")

        def shown(size: tuple[int, int]) -> np.ndarray:
            pixels = self.pixels(i)
            if pixels.dtype != np.uint8:  # deep grey ones have one channel
                return resize(brightness(pixels), size)
            if pixels.ndim == 2:
                return brightness(resize(pixels, size))
            small_CHW = resize(np.moveaxis(pixels, -1, 0), size)
            return brightness(np.moveaxis(small_CHW, 0, -1), self.channel)

        if fit == "resize":
            return shown(size)
        frame_HW = np.zeros(size, np.float32)
        (top, height), (left, width) = (covered(length) for length in size)
        placed = shown((height, width))
        frame_HW[top : top + height, left : left + width] = placed
        return frame_HW

    def fingerprint(self) -> str:
        """Hash of all that the images depend on; of image files the name and `stamp`, without
        reading them."""
        named = [self.channel, self.classes, self.identities, self.labels.tolist()]
        if isinstance(self.source, np.ndarray):
            named.append([self.source.shape, hashlib.sha256(self.source.tobytes()).hexdigest()])
        else:
            named.append([stamp(path) for path in self.source])
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


class Partners:
    """Random images of a wanted class.

    `labels` int64 (n,): classes of the images that may be drawn, indices into `classes`. `wanted`:
    integer (m,), the labels that will be asked for. Errors: DataError naming a wanted class that
    has no image.
    """

    def __init__(self, labels: np.ndarray, classes: list[str], wanted: np.ndarray):
        self._images = np.argsort(labels, kind="stable")  # those of a class are neighbours
        self._labels = labels[self._images]
        for label in np.setdiff1d(wanted, labels).tolist():
            name = classes[label] if 0 <= label < len(classes) else label
            raise DataError(
                f"class {name!r} has no static image to learn from: "
                "add one, or leave its recordings out"
            )

    def draw(self, label_B: np.ndarray, u_B: np.ndarray) -> np.ndarray:
        """Indices of images of these classes, int64 (B,), each of a class equally likely: one for
        each uniform number in [0, 1)."""
        first_B = np.searchsorted(self._labels, label_B)
        count_B = np.searchsorted(self._labels, label_B, side="right") - first_B
        return self._images[first_B + (u_B * count_B).astype(np.int64)]


def brightness(pixels: np.ndarray, channel: str = "v") -> np.ndarray:
    """uint8 or uint16 (H, W) or (H, W, 3) -> float32 (H, W) in 0..1. `channel` as in StaticImages;
    grey images have but one."""
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2) if channel == "v" else pixels[..., -1]
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def covered(length: int) -> tuple[int, int]:
    """(start, length) of the middle 28/34 of a sensor with `length` rows or columns."""
    inner = max(1, round(COVERED * length))
    return (length - inner) // 2, inner


def find_images(path: str | Path, channel: str = "v") -> StaticImages:
    """The images at `path`:

    - a folder tree <class>/<image>.jpg (or another of ENDINGS): classes and files sorted by
      name, identity "<class>/<file name without ending>";
    - a folder with MNIST's files (train-images-idx3-ubyte, ..., packed or not), identity
      "mnist:<index>", test images from 60000 on;
    - an .npz file with `image` uint8 (n, H, W[, 3]), `label` (n,), and `mnist_index` (n,)
      (identity "mnist:<index>") or `identity` (n,) strings; perhaps `classes`, their names.

    Files of a tree are opened when their image is asked for. Errors: DataError saying what is
    missing or damaged.
    """
    if channel not in CHANNELS:
        raise DataError(f"there is no channel {channel!r}: use {' or '.join(CHANNELS)}")
    path = Path(path).expanduser()
    if path.is_dir():
        parts = [part for part in MNIST_PARTS if _mnist_file(path, part[0])]
        return _open_mnist(path, parts, channel) if parts else _open_tree(path, channel)
    if not path.is_file():
        raise DataError(f"there is no folder or file {path} with static images")
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path} is neither a folder of images nor an .npz file")
    return _open_npz(path, channel)


def _open_tree(folder: Path, channel: str) -> StaticImages:
    files = class_files(folder, ENDINGS)
    if not files:
        raise DataError(f"{folder} holds no images in class folders, <class>/<image>.jpg")
    classes, labels = numbered([name for name, _ in files])
    identities = [f"{name}/{path.stem}" for name, path in files]
    return StaticImages(labels, classes, identities, [path for _, path in files], channel)


def _open_npz(path: Path, channel: str) -> StaticImages:
    from .readers.arrays import arrays_of  # brings numba, so only here

    try:
        parts = arrays_of(path.read_bytes(), str(path))
    except (OSError, EventFormatError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise DataError(f"{path} cannot be read as an .npz file ({reason})") from error
    if missing := [name for name in ("image", "label") if name not in parts]:
        raise DataError(f"{path} lacks the array {missing[0]!r}: it has {', '.join(parts)}")
    image, label = parts["image"], parts["label"]
    if image.dtype != np.uint8 or image.ndim not in (3, 4) or image.shape[3:] not in ((), (3,)):
        raise DataError(
            f"{path}: image is {image.dtype} {image.shape}, not uint8 (n, H, W) or (n, H, W, 3)"
        )
    if not (named := [name for name in ("mnist_index", "identity") if name in parts]):
        raise DataError(
            f"{path} does not say which image each one is: add the array mnist_index or identity"
        )
    given = parts[named[0]]
    if label.dtype.kind not in "iu" or not label.shape == (len(image),) == given.shape:
        raise DataError(
            f"{path} has images {image.shape}, identities {given.shape} and labels "
            f"{label.dtype} {label.shape}: give one integer label and identity per image"
        )
    prefix = "mnist:" if named[0] == "mnist_index" else ""
    identities = [f"{prefix}{identity}" for identity in given.tolist()]
    return _numbered(path, image, label, identities, channel, parts.get("classes"))


def _numbered(
    path: Path,
    image: np.ndarray,
    label: np.ndarray,
    identities: list[str],
    channel: str,
    names: np.ndarray | None = None,
) -> StaticImages:
    """Images whose labels are numbers; the classes are called so unless `names` are given."""
    if not image.size:
        raise DataError(f"{path} holds no images")
    n = int(label.max()) + 1
    if names is None and n > MOST_CLASSES:
        raise DataError(f"{path} has a label {n - 1}: number the classes from 0 on")
    classes = [*map(str, range(n) if names is None else names.ravel().tolist())]
    if label.min() < 0 or n > len(classes):
        raise DataError(f"{path}: labels {label.min()}..{n - 1} do not fit {len(classes)} classes")
    return StaticImages(label.astype(np.int64), classes, identities, image, channel)


def _mnist_file(folder: Path, start: str) -> Path | None:
    """train-images-idx3-ubyte, train-images.idx3-ubyte.gz and the like; None if it is not there."""
    return next(iter(sorted(folder.glob(f"{start}*idx?-ubyte*"))), None)


def _open_mnist(folder: Path, parts: list[tuple[str, int]], channel: str) -> StaticImages:
    images, labels, identities = [], [], []
    for prefix, first in parts:
        image_file, label_file = (
            _mnist_file(folder, f"{prefix}-{k}") for k in ("images", "labels")
        )
        if image_file is None or label_file is None:
            missing = "labels-idx1" if label_file is None else "images-idx3"
            raise DataError(f"{folder} holds MNIST files but no {prefix}-{missing}-ubyte: add it")
        image, label = read_idx(image_file, 3), read_idx(label_file, 1)
        if len(image) != len(label):
            raise DataError(f"{image_file} has {len(image)} images but {len(label)} labels")
        images.append(image)
        labels.append(label)
        identities += [f"mnist:{first + i}" for i in range(len(label))]
    return _numbered(folder, np.concatenate(images), np.concatenate(labels), identities, channel)
