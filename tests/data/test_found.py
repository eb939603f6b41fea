"""What is skipped in a folder and why, and checksums as the usual tools make them."""

import hashlib
import os
from pathlib import Path

import pytest

from snndelay.data.found import FITS, advice, sha256_of_all, skipped


def write(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return [folder / name for name in names]


def test_every_file_that_is_not_used_has_a_reason(tmp_path):
    used = write(tmp_path, "a/1.bin", "größe 猫/ä.bin")
    write(tmp_path, "a/.2.bin", ".git/x/config", "lost+found/1.bin", "_old/1.bin", "a/read.TXT")
    write(tmp_path, "a/none", "top.bin", "a/deep/1.bin", "a/annotation_1.bin", "b/read.txt")
    (tmp_path / "a/gone.bin").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "a/pipe.bin")
    rows = {row.reason: (row.n, row.first) for row in skipped(tmp_path, used)}
    assert rows == {
        "hidden": (3, ".git/x/config"),
        "in a folder that begins with _": (1, "_old/1.bin"),
        ".txt file": (2, "a/read.TXT"),
        "name without an ending": (1, "a/none"),
        "in no class folder": (1, "top.bin"),
        "too deep, or another name than the set's": (1, "a/deep/1.bin"),
        "an annotation": (1, "a/annotation_1.bin"),
        "a link to nowhere": (1, "a/gone.bin"),
        "no regular file": (1, "a/pipe.bin"),
    }
    assert [row.n for row in skipped(tmp_path, used)] == sorted((n for n, _ in rows.values()))[::-1]


def test_files_have_many_paths(tmp_path):
    write(tmp_path, "a/1.bin", "b/2.bin")
    used = [tmp_path / "a/../b/2.bin", tmp_path / "b/../a/1.bin"]
    assert skipped(tmp_path / "a" / "..", used) == []


def test_links_to_folders_are_followed(tmp_path):
    (used,) = write(tmp_path / "other", "1.bin")
    write(tmp_path / "other", "notes.md")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a").symlink_to(tmp_path / "other")
    rows = skipped(tmp_path / "set", [tmp_path / "set/a" / used.name])
    assert [tuple(row) for row in rows] == [(".md file", 1, "a/notes.md")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_a_reason(tmp_path):
    write(tmp_path, "a/1.bin")
    (tmp_path / "a").chmod(0)
    (row,) = skipped(tmp_path, [])
    (tmp_path / "a").chmod(0o700)
    assert row.reason.startswith("a folder that cannot be read")


@pytest.mark.parametrize(
    ("name", "words"),
    [("a/1.WAV", "encode audio"), ("a/1.jpg", "encode images"), ("a/1.pdf", ""),
     ("a/1.bin", "")],
)  # fmt: skip
def test_a_folder_without_recordings_gets_advice(tmp_path, name, words):
    write(tmp_path, name)
    rows = skipped(tmp_path, [])
    assert words in advice(rows) and bool(words) == bool(advice(rows))
    assert (rows[0].reason == FITS) == name.endswith(".bin")


def test_the_checksum_of_a_tree_is_that_of_the_lines_of_sha256sum(tmp_path):
    files = write(tmp_path, "b/2", "a/1", "a/ö")
    lines = "".join(
        f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("a/1", "a/ö", "b/2")
    )
    assert sha256_of_all(tmp_path, files) == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / "a/1").write_text("other")
    assert sha256_of_all(tmp_path, files) != hashlib.sha256(lines.encode()).hexdigest()
