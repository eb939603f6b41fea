"""Rules that keep the house in order: directions and circles of import, light start, sizes, words,
documented public functions, what an install holds.
"""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import snndelay
from snndelay import kernels

ROOT = Path(__file__).parent.parent
HOMES = {"snndelay.kernels": ROOT / "kernels", "snndelay.data": ROOT / "data"}
# room -> what may not be imported in it, anywhere in a file: lazy and type-only imports count
FORBIDDEN = {
    "snndelay.kernels": "h5py tonic scipy matplotlib soundfile jsonargparse snndelay.data "
    "snndelay.runs snndelay.delays snndelay.neurons snndelay.blocks",
    "snndelay.data": "triton matplotlib jsonargparse snndelay.runs "
    "snndelay.delays snndelay.neurons snndelay.blocks snndelay.networks",
    "snndelay.runs": "triton numba tonic",
    "snndelay": "triton numba h5py tonic matplotlib jsonargparse snndelay.data snndelay.runs",
}
NEVER = ("torchaudio", "torchvision", "lightning", "spikingjelly.datasets")
# (module, what it may import all the same): why
EXCEPTIONS = {
    ("snndelay", "snndelay.runs"): "public names of the application, loaded on first use",
    ("snndelay.__main__", "snndelay.runs"): "`python -m snndelay` is the command",
}
COMPILERS = {"numba": "snndelay.kernels.cpu", "triton": "snndelay.kernels.triton"}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the product by its import name."""
    found = {}
    for home, folder in (("snndelay", ROOT / "snndelay"), *HOMES.items()):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if home == "snndelay" and parts[0] in ("kernels", "data"):  # the links
                continue
            found[".".join((home, *parts)).removesuffix(".__init__")] = path
    return found


@functools.cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, anywhere in its file: modules of ours, and foreign ones."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:  # `from . import x`: x is a module, or a name of the package
                inner = f"{source}.{alias.name}"
                is_module = inner in modules() and not (node.module and defines(source, alias.name))
                found.add(inner if is_module else source)
    return frozenset(found)


def defines(package: str, name: str) -> bool:
    """Whether a package's own file makes this name, so that it is no module there."""
    tree = ast.parse(modules()[package].read_text())
    named = (
        a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    )
    return name in named


def room(module: str) -> str:
    return next(name for name in FORBIDDEN if f"{module}.".startswith(f"{name}."))


def within(module: str, name: str) -> bool:
    return f"{module}.".startswith(f"{name}.")


@pytest.mark.parametrize("module", modules())
def test_directions_of_import(module):
    for target in imports(module):
        for name in (*FORBIDDEN[room(module)].split(), *NEVER):
            allowed = (module, name) in EXCEPTIONS or within(module, name)
            assert allowed or not within(target, name), f"{module} imports {target}"
        for compiler, home in COMPILERS.items():
            allowed = (module, compiler) in EXCEPTIONS or within(module, home)
            assert allowed or not within(target, compiler), f"{module} imports {target}"


def test_exceptions_are_needed():
    for module, name in EXCEPTIONS:
        assert any(within(target, name) for target in imports(module)), f"{module} keeps the rule"


def test_there_is_no_circle_of_imports():
    graph = {module: sorted(imports(module) & modules().keys()) for module in modules()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for target in graph[module]:
                visit(target, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


# -- sizes ---

FILE_LINES, FUNCTION_LINES, KERNEL_LINES = 400, 60, 80
ARGUMENTS = "a third of it is one comment per argument"
TOO_LONG = {  # "module" or "module.function": why it is longer
    "snndelay.kernels.triton.delay_kernels.delay_conv_kernel": ARGUMENTS,
    "snndelay.kernels.triton.delay_kernels.delay_dw_kernel": ARGUMENTS,
    "snndelay.kernels.triton.lif_kernels.lif_bwd_kernel": ARGUMENTS,
    "snndelay.kernels.triton.recurrent_kernels.recurrent_bwd_kernel": ARGUMENTS,
}


def test_what_is_too_long_has_a_reason_and_is():
    for name in TOO_LONG:
        module = max((m for m in modules() if within(name, m)), key=len)
        tree = ast.parse(modules()[module].read_text())
        lines = {f"{module}.{n.name}": n for n in tree.body if isinstance(n, ast.FunctionDef)}
        node = lines[name]
        assert (node.end_lineno or 0) - node.lineno + 1 > KERNEL_LINES, f"{name} is short now"


@pytest.mark.parametrize("module", modules())
def test_files_and_functions_stay_readable(module):
    text = modules()[module].read_text()
    assert len(text.splitlines()) <= FILE_LINES or module in TOO_LONG, f"{module} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if node.body and isinstance(node.body[0], ast.Expr):  # a docstring is no code
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            most = KERNEL_LINES if room(module) == "snndelay.kernels" else FUNCTION_LINES
            name = f"{module}.{node.name}"
            assert lines <= most or name in TOO_LONG, f"{name} has {lines} lines"


# -- words ---

OLD_WORDS = (
    r"\bspectral\b|\bstate_cut\b|\bn_bins\b|\bsounds\b|\bcameras\b|\bCameraSet\b|\bCAMERAS\b"
    r"|\bSoundJob\b|\bsltt\.py|\bopen_dataset\b|\b(Data|Model|Train)Config\b"
    r"|padding[= ]+.published|protocol[= ]+.published|split[= ]+.(identity|published)"
    r"|kernel=.(gauss|max|v1|v0)|gradient[= ]+.full|loss[= ]+.steps"
    r"|framing[= ]+.(bins|count|window)\b"
)


def test_renamed_words_are_gone():
    # history, and the words of other libraries
    kept = {ROOT / "CHANGELOG.md", ROOT / "docs/log.md", ROOT / "docs/migrate.md", Path(__file__)}
    texts = [p for p in our_files() if p.suffix in (".py", ".md", ".toml", ".yml")]
    for path in texts:
        found = None if path in kept else re.search(OLD_WORDS, path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def our_files() -> list[Path]:
    """Files of the product, its tests and its documents."""
    folders = ("kernels", "data", "snndelay", "tests", "benchmarks", "docs")
    inside = [p for name in folders for p in (ROOT / name).rglob("*") if p.is_file()]
    return [*inside, ROOT / "train.py", ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


# -- the links beside the package mapping ---


@pytest.mark.parametrize("name", ["kernels", "data"])
def test_links_point_home(name):
    link = ROOT / "snndelay" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.readlink() == Path("..") / name and link.resolve() == ROOT / name


def test_every_package_is_listed_for_installs():
    """By hand in pyproject.toml, because the folders kernels/ and data/ have other import names."""
    packages = {m for m, path in modules().items() if path.name == "__init__.py"}
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^packages = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed and set(re.findall(r'"([\w.]+)"', listed[1])) == packages


def test_guards_in_the_root():
    for name in ("kernels", "data"):
        run = subprocess.run(
            [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
        )
        assert run.returncode != 0 and f"import snndelay.{name}" in run.stderr, run.stderr


# -- start ---


def test_import_is_light():
    program = (
        "import time; t = time.process_time(); import torch; base = time.process_time() - t\n"
        "import sys; from snndelay import LIF\n"
        "heavy = [m for m in ('matplotlib', 'h5py', 'tonic', 'numba', 'triton', 'jsonargparse',"
        " 'tensorboard', 'spikingjelly', 'snndelay.runs', 'snndelay.data') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(time.process_time() - t - base)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 3, f"import snndelay takes {run.stdout} s beyond torch"


def test_the_version_is_that_of_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{snndelay.__version__}"' in text


def test_a_checkout_that_was_never_installed_knows_its_version(tmp_path):
    program = (
        "import importlib.metadata as m\n"
        "def absent(name): raise m.PackageNotFoundError(name)\n"
        "m.version = absent\n"
        "import snndelay; print(snndelay.__version__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f'version = "{run.stdout.strip()}"' in (ROOT / "pyproject.toml").read_text()


# -- documents ---


def public_objects():
    rooms = ["snndelay.kernels", "snndelay", "snndelay.data"]
    pure = ["losses", "learning", "transfer", "gradients", "kernels.reference"]
    for name in [*rooms, *(f"snndelay.{name}" for name in pure)]:
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
    doc = inspect.getdoc(getattr(kernels, op)) or ""
    for word in ("(N, C, K)" if op == "delay_taps" else "(T, B, ", "Raises:", "Source:"):
        assert word in doc, f"the docstring of {op} lacks {word!r}"


# -- what is shipped ---


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
    files = {f"{m.replace('.', '/')}" for m in modules()}
    held = {n.removesuffix(".py").removesuffix("/__init__") for n in names if n.endswith(".py")}
    assert held == files, held ^ files


@pytest.mark.slow
def test_the_source_archive_holds_all_that_the_tests_need(tmp_path):
    backend = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", backend, tmp_path], cwd=ROOT, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    needed = [
        p.relative_to(ROOT).as_posix()
        for folder in ("tests", "benchmarks", "kernels", "data")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in (".py", ".json", ".xz", ".jsonl")
    ]
    missing = {"train.py", "README.md", *needed} - names
    assert not missing, sorted(missing)[:10]
