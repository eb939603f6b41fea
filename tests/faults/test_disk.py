"""Disks that are full or read-only: file systems of a few kilobytes, each seen by one process."""

import ctypes
import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from snndelay.runs import checkpoint
from snndelay.runs.cli import guarded
from snndelay.runs.training import fit

from ..helpers_runs import settings_of
from .conftest import often
from .processes import assert_ends_alike, started, stop_at, train

NEW_USER_AND_MOUNTS = 0x10000000 | 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS
LARGE = "64m"


def alone() -> None:
    """From here on this process may mount what no other sees. OSError if it may not."""
    user, group, libc = os.getuid(), os.getgid(), ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER_AND_MOUNTS):
        raise OSError(ctypes.get_errno(), "this system lends no file systems")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def mount(folder: Path, *options: str) -> None:
    """A file system of the main memory at `folder`, with these options, new ones if it is there."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        raise OSError(errno.EPERM, "cannot mount")


def can_mount(folder: Path) -> None:
    """What a process does to find out."""
    alone()
    mount(folder, "size=16k")


def on_a_full_disk(flat: dict, disk: Path, size_kb: int, told: Path) -> None:
    """A run on a disk of this size, then with more room; `told` says how it went."""
    alone()
    mount(disk, f"size={size_kb}k")
    flat = flat | {"runs": str(disk)}
    code = guarded(lambda _: train(flat), [])
    found = {"code": code, "left": [p.name for p in disk.rglob(".*.pt.*")]}
    folder = disk / flat["run"]
    found["loads"] = not folder.exists() or checkpoint.load_newest(folder)[0]["epoch"] >= 0
    mount(disk, "remount", f"size={LARGE}")
    if code:
        fit(flat, resume=folder if folder.exists() else None, draw=False)
    subprocess.run(["cp", "-r", folder, told.parent], check=True)
    told.write_text(json.dumps(found))


def on_a_read_only_disk(flat: dict, disk: Path, step: int, told: Path) -> None:
    """A run that was stopped, gone on with on its disk that has become read-only, and then again
    when it no longer is; `told` says how it went."""
    alone()
    mount(disk, f"size={LARGE}")
    flat, folder = flat | {"runs": str(disk)}, disk / flat["run"]
    stop_at(flat, step)
    mount(disk, "remount", "ro")
    found = {"code": guarded(lambda _: train(flat, folder), [])}
    found |= {"new code": guarded(lambda _: train(flat | {"run": "new"}), [])}
    mount(disk, "remount", "rw")
    fit(flat, resume=folder, draw=False)
    found |= {"left": [p.name for p in disk.rglob(".*.pt.*")], "loads": True}
    subprocess.run(["cp", "-r", folder, told.parent], check=True)
    told.write_text(json.dumps(found))


@pytest.fixture
def disk(tmp_path):
    """A folder to mount a disk at."""
    folder = tmp_path / "disk"
    folder.mkdir()
    process = started(tmp_path / "said", can_mount, folder)
    process.join()
    if process.exitcode:
        pytest.skip("no tmpfs can be mounted here")
    return folder


def told(work, flat, disk, tmp_path, n):
    """What a process found out, and what it has said."""
    found, said = tmp_path / "told", tmp_path / f"said-{n}"
    process = started(said, work, flat, disk, n, found)
    process.join()
    assert process.exitcode == 0, said.read_text()
    return json.loads(found.read_text()), said.read_text()


def assert_one_sentence(code, said):
    assert code in (1, 2) and "Traceback" not in said, said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) >= 1, said


@often(2, 20)
def test_a_full_disk(tries, trial, files, tmp_path, disk):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path), "checkpoint_every": "2"}
    fit(flat | {"run": "whole"}, draw=False)
    size = sum(p.stat().st_size for p in (tmp_path / "whole").rglob("*")) // 1024
    for n in range(tries):
        size_kb = 4 + n * size // tries  # full from the first file to the last
        with trial("disk", f"full at {size_kb} of {size} kB"):
            own = flat | {"run": f"cut-{n}"}
            found, said = told(on_a_full_disk, own, disk, tmp_path, size_kb)
            assert_one_sentence(found["code"], said)
            assert not found["left"] and found["loads"], found
            assert_ends_alike(tmp_path / "whole", tmp_path / own["run"])


@often(1, 8)
def test_a_read_only_disk(tries, trial, files, tmp_path, disk):
    flat = settings_of("audio", files, "", "") | {"runs": str(tmp_path)}
    fit(flat | {"run": "whole"}, draw=False)
    for step in range(1, tries + 1):
        with trial("disk", f"read-only after step {step}"):
            own = flat | {"run": f"cut-{step}"}
            found, said = told(on_a_read_only_disk, own, disk, tmp_path, step)
            for which in ("code", "new code"):
                assert_one_sentence(found[which], said)
            assert not found["left"], found
            assert_ends_alike(tmp_path / "whole", tmp_path / own["run"])
