"""Image folders to recordings: the tree, its seeds, what is kept and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snndelay.data.vision import encode_folder as module
from snndelay.data.vision.atis import read_atis
from snndelay.data.vision.encode_folder import encode_folder
from snndelay.data.vision.folder import open_folder
from snndelay.errors import DataError

SIZE = (20, 30)
QUIET = {"progress": False, "processes": 1}
NAMES = ("ant/image_0001", "ant/image_0002", "bee/image_0001")


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (25, 18, 3)).astype(np.uint8)).save(path)
    return tmp_path / "images"


def contents(tree: Path) -> dict[str, bytes]:
    return {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def test_the_tree_is_a_data_set_of_recordings(folder, tmp_path):
    out = tmp_path / "out"
    made = encode_folder(folder, out, size=SIZE, **QUIET)
    assert sorted(contents(out)) == sorted(f"{name}.bin" for name in NAMES)
    events = [read_atis(out / f"{name}.bin", SIZE) for name in NAMES]
    assert made == {
        "folder": str(out), "recordings": 3, "classes": 2, "resumed": 0,
        "events": sum(map(len, events)),
    }  # fmt: skip
    assert min(map(len, events)) > 300
    assert not Path(f"{out}.work").exists()
    recordings = open_folder(out)
    assert recordings.identities == list(NAMES) and recordings.classes == ["ant", "bee"]


def test_processes_and_order_do_not_matter_but_the_seed_does(folder, tmp_path):
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    encode_folder(folder, one, size=SIZE, **QUIET)
    encode_folder(folder, two, size=SIZE, processes=2, progress=False)
    encode_folder(folder, other, size=SIZE, seed=1, **QUIET)
    assert contents(one) == contents(two)
    assert all(contents(one)[name] != raw for name, raw in contents(other).items())


def test_an_interrupted_run_goes_on(folder, tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    encode_folder(folder, whole, size=SIZE, **QUIET)
    work, done = module.encode_file, []

    def stop_at_third(job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.out)
        work(job)

    monkeypatch.setattr(module, "encode_file", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        encode_folder(folder, out, size=SIZE, **QUIET)
    assert not out.exists(), "an unfinished tree bears the name of a finished one"
    (done[0].parent / "image_0009.bin.123.part").write_bytes(b"of a killed worker")
    kept = [path.stat().st_mtime_ns for path in done]
    monkeypatch.setattr(module, "encode_file", work)
    with pytest.raises(DataError, match=r"out\.work was begun with other images or settings"):
        encode_folder(folder, out, size=SIZE, seed=7, **QUIET)
    assert encode_folder(folder, out, size=SIZE, **QUIET)["resumed"] == 2
    assert contents(out) == contents(whole)
    moved = [out / path.relative_to(f"{out}.work") for path in done]
    assert kept == [path.stat().st_mtime_ns for path in moved], "a finished one was made again"


def test_what_is_refused(folder, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "file.txt").write_text("no folder")
    out = tmp_path / "out"
    for source, target, options, word in (
        (folder, tmp_path / "there", {}, "exists already"),
        (tmp_path / "none", out, {}, "no folder"),
        (tmp_path / "file.txt", out, {}, "no folder"),
        (tmp_path / "there", out, {}, "no images"),
        (folder, out, {"size": (241, 30)}, "does not fit"),
        (folder, out, {"size": (0, 30)}, "does not fit"),
        (folder, tmp_path / "file.txt" / "out", {}, "cannot be made"),
    ):
        with pytest.raises(DataError, match=word) as error:
            encode_folder(source, target, **({"size": SIZE} | QUIET | options))
        assert "\n" not in str(error.value)
    (folder / "ant/image_0001.jpg").write_bytes((folder / "ant/image_0001.png").read_bytes())
    with pytest.raises(DataError, match="two images called ant/image_0001"):
        encode_folder(folder, out, size=SIZE, **QUIET)
    assert not out.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_image_is_named(folder, tmp_path, processes):
    (folder / "bee/image_0001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bee/image_0001\.png cannot be read"):
        encode_folder(folder, tmp_path / "out", size=SIZE, processes=processes, progress=False)
    assert not (tmp_path / "out").exists()
