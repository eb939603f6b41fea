"""Compiled code is kept where that is possible, and compiled anew where it is not."""

import os
import subprocess
import sys

import pytest

from snndelay.kernels.cpu import compiled as module
from snndelay.kernels.cpu.compiled import compiled


def homeless(text: str) -> dict:
    """A function without a file, beside which nothing can be kept."""
    names: dict = {}
    exec(compile(text, "<nowhere>", "exec"), names)
    return names


def test_without_a_place_to_keep_code_it_is_compiled_all_the_same(caplog):
    module._say.cache_clear()
    for name in ("f", "g"):
        twice = compiled(nogil=True)(homeless(f"def {name}(x): return 2 * x")[name])
        assert twice(21) == 42 and twice.signatures
    lines = [r.getMessage() for r in caplog.records if r.name == "snndelay"]
    assert len(lines) == 1 and "set NUMBA_CACHE_DIR to a folder" in lines[0], lines


def test_another_error_of_numba_is_not_hidden(monkeypatch):
    def broken(**_):
        raise RuntimeError("another")

    monkeypatch.setattr(module, "njit", broken)
    with pytest.raises(RuntimeError, match="another"):
        compiled()(len)


@pytest.mark.skipif(os.name != "posix", reason="a home that cannot be made")
def test_triton_keeps_code_for_the_process_where_home_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    text = "import os, snndelay.kernels.triton as t; print(os.environ.get('TRITON_CACHE_DIR'))"
    env = {k: v for k, v in os.environ.items() if k not in ("TRITON_CACHE_DIR", "TRITON_HOME")}
    for home, moved in ((tmp_path / "file", True), (tmp_path, False)):
        run = subprocess.run(
            [sys.executable, "-c", text],
            env=env | {"HOME": str(home)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        assert (run.stdout.strip() != "None") == moved, run.stdout
        assert not moved or not os.path.exists(run.stdout.strip()), "it goes with the process"
