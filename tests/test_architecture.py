"""Rules that keep the house in order: directions of import, light start, documented public
functions, the wheel.
"""

import ast
import importlib
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import snndelay
from snndelay import kernels

ROOT = Path(__file__).parent.parent
ROOMS = {"data": ROOT / "data", "kernels": ROOT / "kernels", "snndelay": ROOT / "snndelay"}
FORBIDDEN = {
    "kernels": {"snndelay", "h5py", "tonic", "scipy", "matplotlib", "soundfile", "jsonargparse"},
    "data": {"snndelay", "triton", "matplotlib", "jsonargparse"},
    "snndelay": {"triton", "spikingjelly"},
}
NEVER = {"torchaudio", "torchvision", "lightning"}


def imports(path: Path) -> list[tuple[str, int, bool]]:
    """(module, level of a relative import, whether at the top of the file) for every import."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            found += [(alias.name, 0, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.level, top))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_directions_of_import(room):
    for path in ROOMS[room].rglob("*.py"):
        for module, level, _ in imports(path):
            name = module.split(".")[0]
            where = f"{room}/{path.name} imports {'.' * level}{module}"
            assert not (level == 0 and name in FORBIDDEN[room] | NEVER), where
            assert not (level > 1 and room != "snndelay"), f"{where}: it looks outside its room"
            assert not module.startswith("spikingjelly.datasets"), where


def test_reference_needs_no_triton():
    assert "triton" not in {m for m, _, _ in imports(ROOMS["kernels"] / "reference.py")}


def test_data_defines_no_network():
    for room in ("data", "kernels"):
        for path in ROOMS[room].rglob("*.py"):
            assert "nn.Module" not in path.read_text(), f"{room}/{path.name} defines a network"


def test_import_is_light():
    program = (
        "import time; t = time.process_time(); import torch; base = time.process_time() - t\n"
        "import sys, snndelay\n"
        "heavy = [m for m in ('matplotlib', 'h5py', 'tonic', 'numba', 'triton', 'jsonargparse',"
        " 'tensorboard', 'spikingjelly') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(time.process_time() - t - base)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 3, f"import snndelay takes {run.stdout} s beyond torch"


def public_objects():
    rooms = ["snndelay.kernels", "snndelay", "snndelay.data"]
    pure = ["losses", "learning", "transfer", "gradients", "data.vision.sliding"]
    modules = [*rooms, *(f"snndelay.{name}" for name in pure)]
    for name in modules:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
        for n in names:
            thing = getattr(module, n)
            if callable(thing) and getattr(thing, "__module__", "").startswith("snndelay"):
                yield pytest.param(thing, id=f"{name}.{n}")


@pytest.mark.parametrize("thing", list(public_objects()))
def test_public_things_are_documented(thing):
    doc = inspect.getdoc(thing) or ""
    assert len(doc) > 30, f"{thing} has no docstring"
    if inspect.isclass(thing):
        for name, member in inspect.getmembers(thing, inspect.isfunction):
            if (
                name[0] != "_"
                and name != "extra_repr"
                and member.__qualname__.startswith(thing.__name__)
            ):
                assert member.__doc__, f"{thing.__name__}.{name} has no docstring"


@pytest.mark.parametrize("op", kernels.OPS)
def test_ops_state_shapes_errors_and_source(op):
    doc = inspect.getdoc(getattr(kernels, op))
    for word in ("(N, C, K)" if op == "delay_taps" else "(T, B, ", "Raises:", "Source:"):
        assert word in doc, f"the docstring of {op} lacks {word!r}"


def test_the_version_is_that_of_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{snndelay.__version__}"' in text


def test_guards_in_the_root(tmp_path):
    for room in ("kernels", "data"):
        run = subprocess.run(
            [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode != 0 and f"import snndelay.{room}" in run.stderr, run.stderr


@pytest.mark.slow
def test_the_wheel_holds_only_snndelay(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert tops == {"snndelay"}, tops
    assert "snndelay/data/audio/spoken_digits.xz" in names
