"""Checkpoints: whole or not at all, and never a wrong bit."""

import errno
import io
import os
import pickle

import pytest
import torch

from snndelay.errors import CheckpointCorrupt, CheckpointWriteError
from snndelay.runs import checkpoint, files

STATE = {
    "epoch": 3,
    "weights": torch.arange(600, dtype=torch.float32),
    "nested": {"betas": (0.9, 0.99), "names": ["a", "b"], "none": None, "yes": True},
}


def test_round_trip(tmp_path):
    checkpoint.save(tmp_path / "last.pt", STATE)
    back = checkpoint.load(tmp_path / "last.pt")
    assert torch.equal(back.pop("weights"), STATE["weights"])
    assert back == {k: v for k, v in STATE.items() if k != "weights"}
    assert os.listdir(tmp_path) == ["last.pt"], "a temporary file was left"
    plain = torch.load(tmp_path / "last.pt", weights_only=True)
    assert plain["epoch"] == 3, "torch.load alone cannot read the file"


def test_every_change_of_the_bytes_is_found(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    flips = [(i * len(whole) // 200, 1 << i % 8) for i in range(200)]
    mutants = [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i, bit in flips]
    mutants += [whole[:n] for n in range(0, len(whole), 512)] + [whole + b"x"]
    for number, mutant in enumerate(mutants):
        path.write_bytes(mutant)
        with pytest.raises(CheckpointCorrupt, match=r"last\.pt"):
            print(f"mutant {number} was read:", checkpoint.load(path))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"a": Evil()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Evil())):
        digest = checkpoint.hashlib.sha256(content).digest()
        (tmp_path / "evil.pt").write_bytes(content + digest)
        with pytest.raises(CheckpointCorrupt, match="other than tensors"):
            checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "evil").exists(), "the pickle was executed"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_failed_write_keeps_the_old_checkpoint(tmp_path, monkeypatch, code):
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE)

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(CheckpointWriteError) as caught:
        checkpoint.save(path, STATE | {"epoch": 4})
    for word in (str(path), os.strerror(code), "bytes", "free"):
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"
    assert checkpoint.load(path)["epoch"] == 3
    assert os.listdir(tmp_path) == ["last.pt"], "a temporary file was left"


def test_a_missing_folder_or_file(tmp_path):
    with pytest.raises(CheckpointWriteError, match="cannot write"):
        checkpoint.save(tmp_path / "none" / "last.pt", STATE)
    with pytest.raises(CheckpointCorrupt, match="cannot read"):
        checkpoint.load(tmp_path / "last.pt")
