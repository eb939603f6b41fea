"""Image files of every kind, whole, damaged, and made to harm: what they say, in time and space."""

import gzip
import io
import re
import struct
import subprocess
import sys
import time
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snndelay.data.vision.image_files import MOST_SCANS, read_idx, read_image
from snndelay.data.vision.images import brightness, find_images
from snndelay.errors import DataError

from ...helpers_formats import mutants, put, scattered

RGB = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
GREY = RGB[..., 0]
SLOPE = np.linspace(0, 255, 120).reshape(12, 10)  # smooth, so that JPEG keeps it
COLOURS = np.stack([SLOPE, SLOPE[::-1], SLOPE[:, ::-1]], 2).astype(np.uint8)


def saved(picture, format: str, **options) -> bytes:
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def with_alpha(mode: str) -> Image.Image:
    picture = Image.fromarray(RGB if mode == "RGBA" else GREY).convert(mode)
    picture.putalpha(Image.fromarray(RGB[..., 1]))
    return picture


def palette() -> Image.Image:
    return Image.fromarray(RGB // 100 * 127).quantize(27)


PALETTE = np.asarray(palette().convert("RGB"))
DEEP = GREY.astype(np.uint16) * 257
BLACK_AND_WHITE = (GREY > 99).astype(np.uint8) * 255

KINDS = {  # name -> (ending, file, its pixels, how far they may be off)
    "1 bit": (".png", saved(Image.fromarray(BLACK_AND_WHITE).convert("1"), "PNG"),
              BLACK_AND_WHITE, 0),
    "1 bit tiff": (".tif", saved(Image.fromarray(BLACK_AND_WHITE).convert("1"), "TIFF",
                                 compression="group4"), BLACK_AND_WHITE, 0),
    "grey and alpha": (".png", saved(with_alpha("LA"), "PNG"), np.stack([GREY] * 3, 2), 0),
    "colours and alpha": (".tif", saved(with_alpha("RGBA"), "TIFF"), RGB, 0),
    "palette": (".png", saved(palette(), "PNG"), PALETTE, 0),
    "palette, one clear": (".png", saved(palette(), "PNG", transparency=3), PALETTE, 0),
    "palette, all half clear": (".png", saved(palette(), "PNG", transparency=bytes(range(27))),
                                PALETTE, 0),
    "palette bmp": (".bmp", saved(palette(), "BMP"), PALETTE, 0),
    "still gif": (".gif", saved(palette(), "GIF"), PALETTE, 0),
    "still webp": (".webp", saved(RGB, "WEBP", lossless=True), RGB, 0),
    "16 bit png": (".png", saved(DEEP, "PNG"), DEEP, 0),
    "16 bit tiff": (".tif", saved(DEEP, "TIFF"), DEEP, 0),
    "16 bit tiff, big-endian": (".tif", saved(Image.frombytes("I;16B", (10, 12),
                                DEEP.astype(">u2").tobytes()), "TIFF"), DEEP, 0),
    "16 bit pgm": (".pgm", b"P5 10 12 65535\n" + DEEP.astype(">u2").tobytes(), DEEP, 0),
    "floats": (".tif", saved(GREY.astype(np.float32) / 255, "TIFF"), DEEP, 0),
    "packed tiff": (".tif", saved(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
    "interlaced": (".png", saved(RGB, "PNG", interlace=1), RGB, 0),
    "jpeg": (".jpg", saved(COLOURS, "JPEG", quality=95, subsampling=0), COLOURS, 6),
    "cmyk jpeg": (".jpg", saved(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=98),
                  COLOURS, 9),
    "progressive jpeg": (".jpg", saved(SLOPE.astype(np.uint8), "JPEG", progressive=True),
                         SLOPE, 6),
}  # fmt: skip
ENDINGS = (".png", ".jpg", ".tif", ".gif", ".webp", ".bmp", ".ppm")


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pixels_is_read_as_it_is_seen(tmp_path, kind):
    ending, raw, want, off = KINDS[kind]
    got = read_image(written(tmp_path / f"a{ending}", raw))
    assert got.shape == want.shape and got.dtype == (np.uint16 if want is DEEP else np.uint8)
    most = np.abs(got.astype(int) - want.astype(int)).max()
    assert most <= off, f"a pixel is off by {most}"
    assert 0.9 < brightness(got).max() <= 1, "white is not 1"


def test_a_jpeg_with_a_small_copy_of_itself_is_one_picture(tmp_path):
    small = Image.fromarray(COLOURS[::2, ::2])
    raw = saved(COLOURS, "MPO", save_all=True, append_images=[small], quality=95, subsampling=0)
    got = read_image(written(tmp_path / "a.jpg", raw))
    assert np.abs(got.astype(int) - COLOURS).max() <= 6


def clear(colour: int) -> Image.Image:
    picture = Image.fromarray(np.full((12, 10, 3), colour, np.uint8)).convert("RGBA")
    picture.putalpha(Image.fromarray(GREY))
    return picture


def several(format: str, **options) -> bytes:
    more = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]} | options
    return saved(RGB, format, **more)


def tagged(tag: int, value: int) -> bytes:
    """A TIFF of 16 bits with another value of a tag."""
    raw = bytearray(saved(DEEP, "TIFF"))
    at = struct.unpack_from("<I", raw, 4)[0] + 2
    while struct.unpack_from("<H", raw, at)[0] != tag:
        at += 12
    struct.pack_into("<I", raw, at + 8, value)
    return bytes(raw)


MEANINGLESS = {  # name -> (file, what is said)
    "floats beyond 1": (saved(GREY.astype(np.float32), "TIFF"), "floats run from 1 to 254: save"),
    "nan": (saved(np.full((3, 3), np.nan, np.float32), "TIFF"), "floats run from nan to nan"),
    "negative": (saved(np.full((3, 3), -0.5, np.float32), "TIFF"), "floats run from -0.5"),
    "32 bits": (saved(GREY.astype(np.int32), "TIFF"), "integers have 32 bits.*: save 8 or 16"),
    "12 bits": (tagged(258, 12), "12 bits, or its 0 is white: save it"),
    "0 is white": (tagged(262, 0), "its 0 is white"),
    "empty": (b"", "it is empty"),
    "gif": (several("GIF"), "several pictures: keep the one"),
    "apng": (several("PNG"), "several pictures"),
    "webp": (several("WEBP"), "several pictures"),
    "pages": (several("TIFF"), "several pictures"),
    "a black shape": (saved(clear(0), "PNG"), "in its transparency alone: save it on a background"),
    "a white shape": (saved(clear(255), "TIFF"), "in its transparency alone"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no JPEG, PNG, .* or damaged"),
}


@pytest.mark.parametrize("kind", MEANINGLESS)
def test_what_has_no_one_meaning_is_refused(tmp_path, kind):
    raw, words = MEANINGLESS[kind]
    with pytest.raises(DataError, match=rf"a\.png cannot be read as an image \(.*{words}") as e:
        read_image(written(tmp_path / "a.png", raw))
    assert "\n" not in str(e.value)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, kind: int = 2) -> bytes:
    """A black PNG of three bytes a pixel, packed a thousandfold."""
    packer, row = zlib.compressobj(9), bytes(1 + width * {0: 1, 2: 3, 6: 4}[kind])
    body = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    packed = b"k\0\0" + zlib.compress(bytes(1 << 29), 9)
    return png_of(8, 8)[:33] + chunk(b"zTXt", packed) + png_of(8, 8)[33:]


def scans(n: int) -> bytes:
    """A progressive JPEG whose last scan comes n times."""
    raw = saved(np.zeros((2048, 2048), np.uint8), "JPEG", progressive=True)
    at = raw.rindex(b"\xff\xda")
    return raw[:at] + raw[at:-2] * n + raw[-2:]


READ = """
import resource, sys, time
from pathlib import Path
import numpy as np
from snndelay.data.vision.image_files import read_image, read_idx
from snndelay.errors import DataError
from PIL import Image
Image.init()
read_image(Path(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
try:
    path = Path(sys.argv[1])
    print(read_image(path).shape if path.suffix != ".gz" else read_idx(path, 3).shape)
except DataError as error:
    print(error)
took = time.process_time() - start
print(took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def cost(path: Path) -> tuple[str, float, float]:
    """(what is said of a file, seconds, bytes of memory beyond 32 times its own)."""
    whole = written(path.with_name("whole.png"), KINDS["interlaced"][1])
    command = [sys.executable, "-c", READ, path, whole]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, figures = done.stdout.splitlines()
    took, grown = map(float, figures.split())
    return said, took, grown - 32 * path.stat().st_size


BOMBS = {  # name -> (file, what is said)
    "png": (lambda: png_of(6000, 6000), "6000 x 6000 pixels .* in .* bytes: make it smaller"),
    "larger": (lambda: png_of(10, 10).replace(struct.pack(">II", 10, 10),
               struct.pack(">II", 2**31 - 1, 2**31 - 1)), "cannot be read as an image"),
    "largest": (lambda: png_of(4096, 2048), r"\(2048, 4096, 3\)"),
    "largest, clear": (lambda: png_of(4096, 2048, 6), r"\(2048, 4096, 3\)"),
    "text": (text_bomb, "cannot be read as an image"),
    "scans": (lambda: scans(2000), "scans: save it anew"),
    "most scans": (lambda: scans(MOST_SCANS - 8), r"\(2048, 2048\)"),
    "progressive": (lambda: saved(np.zeros((2048, 4096, 3), np.uint8), "JPEG", progressive=True),
                    r"\(2048, 4096, 3\)"),
    "webp": (lambda: saved(np.zeros((2048, 4096, 3), np.uint8), "WEBP"), r"\(2048, 4096, 3\)"),
    "wide webp": (lambda: saved(np.zeros((2100, 16_000), np.uint8), "WEBP"), "make it smaller"),
    "tiff": (lambda: saved(np.zeros((12_000, 12_000), np.uint8), "TIFF",
                           compression="tiff_deflate"), "make it smaller"),
    "gif": (lambda: saved(np.zeros((9000, 9000), np.uint8), "GIF"), "make it smaller"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_no_file_takes_much_more_than_it_is(tmp_path, kind):
    """At most a second, and 64 MB and 32 times the file."""
    make, words = BOMBS[kind]
    check_cost(written(tmp_path / "a.png", make()), words)


def test_a_packed_file_is_read_as_far_as_it_says_and_no_further(tmp_path):
    def packed(name: str, n: int, more: int = 0) -> Path:
        head = bytes((0, 0, 8, 3)) + np.array([n, 1000, 1000], ">i4").tobytes()
        with gzip.open(tmp_path / name, "wb", 1) as file:
            file.write(head)
            for _ in range(n + more):
                file.write(bytes(1_000_000))
        return tmp_path / name

    check_cost(packed("large.gz", 60), r"\(60, 1000, 1000\)")
    check_cost(packed("more.gz", 2, more=200), "holds more than the 2,000,000 bytes it claims")
    check_cost(packed("bomb.gz", 200), r"it claims 200,000,000 bytes in .* that is not packed")


def check_cost(path: Path, words: str) -> None:
    said, took, grown = cost(path)
    assert re.search(words, said), said
    assert took < 1, f"{took:.2f} s"
    assert grown < 64e6, f"{grown / 1e6:.0f} MB"


def check_sentence(error: DataError, path: Path) -> None:
    assert str(path) in f"{error}" and "\n" not in f"{error}", error


def check_damaged(path: Path, files) -> dict[str, int]:
    """Every file gives pixels or a DataError that names it, within a second."""
    seen = {"pixels": 0, "error": 0}
    for raw in files:
        put(path, raw)
        start = time.process_time()
        try:
            got = read_image(path)
            assert got.dtype in (np.uint8, np.uint16) and got.size
            assert got.ndim == 2 or got.shape[2:] == (3,), got.shape
            seen["pixels"] += 1
        except DataError as caught:
            seen["error"] += 1
            check_sentence(caught, path)
        assert time.process_time() - start < 1, "a damaged file takes long"
    return seen


def of_format(format: str) -> list[bytes]:
    """Files of a format, small ones."""
    if format == "PPM":
        return [saved(RGB, format), saved(GREY, format), KINDS["16 bit pgm"][1]]
    return [raw for _, raw, *_ in KINDS.values() if Image.open(io.BytesIO(raw)).format == format]


FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "PPM")


@pytest.mark.parametrize("format", FORMATS)
def test_truncation_at_every_byte(tmp_path, format):
    for whole in of_format(format):
        seen = check_damaged(tmp_path / "a.png", (whole[:end] for end in range(len(whole))))
        assert seen["error"] > len(whole) / 3, f"cuts that nobody sees: {seen}"


def png_mutants(base: list[bytes], n: int, seed: int):
    """PNGs of which one chunk is damaged, or the pixels in it, under right checksums."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        raw, at, chunks = base[i % len(base)], 8, []
        while at < len(raw):
            end = at + 8 + int.from_bytes(raw[at : at + 4])
            chunks.append([raw[at + 4 : at + 8], raw[at + 8 : end]])
            at = end + 4
        name, body = damaged = chunks[rng.integers(len(chunks))]
        packed = name == b"IDAT" and i % 2
        body = next(mutants([zlib.decompress(body) if packed else body], 1, i))
        damaged[1] = zlib.compress(body) if packed else body
        yield raw[:8] + b"".join(chunk(*part) for part in chunks)


def damage(path: Path, format: str, n: int, seed: int) -> dict[str, int]:
    base = of_format(format)
    kinds = (mutants, scattered, png_mutants) if format == "PNG" else (mutants, scattered)
    return check_damaged(path, chain(*(kind(base, n // len(kinds), seed) for kind in kinds)))


@pytest.mark.parametrize("format", FORMATS)
def test_two_thousand_damaged_files(tmp_path, format):
    seen = damage(tmp_path / "a.png", format, 2_000, seed=0)
    assert min(seen.values()) > 20, f"the mutants test one side only: {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_ten_thousand_damaged_files(tmp_path, format):
    damage(tmp_path / "a.png", format, 10_000, seed=100)


def archive() -> bytes:
    file = io.BytesIO()
    names = {"identity": np.array(["one", "two", "six"]), "classes": np.array(["a", "b"])}
    image = np.stack([RGB] * 3)
    np.savez_compressed(file, image=image, label=np.array([0, 1, 1]), **names)
    return file.getvalue()


@pytest.mark.parametrize("n", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_archives(tmp_path, n):
    path, base, errors = tmp_path / "a.npz", [archive()], 0
    cuts = (base[0][:end] for end in range(len(base[0])))
    for raw in chain(cuts, mutants(base, n // 2, n), scattered(base, n - n // 2, n)):
        put(path, raw)
        try:
            assert find_images(path).image(2).shape == RGB.shape[:2]
        except DataError as caught:
            errors += 1
            check_sentence(caught, path)
    assert errors > n / 2


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_damaged_idx_files(tmp_path, ending):
    raw = bytes((0, 0, 8, 3)) + np.array([3, 12, 10], ">i4").tobytes() + RGB.tobytes()
    path, errors = tmp_path / f"train-images-idx3-ubyte{ending}", 0
    raw = gzip.compress(raw) if ending else raw
    for damaged in chain((raw[:end] for end in range(len(raw))), mutants([raw], 2_000)):
        put(path, damaged)
        try:
            assert read_idx(path, 3).dtype == np.uint8
        except DataError as caught:
            errors += 1
            check_sentence(caught, path)
    assert errors > len(raw)
