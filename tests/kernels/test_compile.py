"""The Triton kernels compile for GPUs that are not here: no spills, tensor cores where there are
products, and registers and shared memory as recorded (compile_kernels.py writes the record).
"""

import json
import os
import subprocess
import sys

import pytest

from ..helpers_training import ROOT
from . import compile_kernels

pytest.importorskip("triton")
TABLE = json.loads(compile_kernels.TABLE.read_text())
ALIGNED = {"aligned": [], "unaligned": ["--unaligned"]}


@pytest.fixture(
    scope="module", params=["aligned", pytest.param("unaligned", marks=pytest.mark.slow)]
)
def report(request, tmp_path_factory):
    """What a process without the interpreter compiled: triton's version, names, found."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", compile_kernels.__name__, *ALIGNED[request.param]]
    run = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout) | {"aligned": request.param == "aligned"}


def rows(report) -> list[tuple[str, dict]]:
    """(variant on capability, what it takes) of all that compiled."""
    found = [(n, c, row) for c, part in report["found"].items() for n, row in part.items()]
    assert len(found) == len(report["names"]) * len(compile_kernels.CAPABILITIES) > 0
    return [(f"{n} on sm_{c}", row) for n, c, row in found if "error" not in row]


def test_every_variant_compiles(report):
    errors = {
        f"{name} on sm_{c}": row["error"]
        for c, part in report["found"].items()
        for name, row in part.items()
        if "error" in row
    }
    assert not errors, json.dumps(errors, indent=1)


def test_nothing_spills(report):
    spilled = {where: row for where, row in rows(report) if row["stack"] or row["local"]}
    assert not spilled, json.dumps(spilled, indent=1)


def test_products_run_on_tensor_cores(report):
    without = [w for w, row in rows(report) if row["tensor_cores"] and not row["products"]]
    assert any(row["tensor_cores"] for _, row in rows(report))
    assert not without, f"neither wgmma (sm_90) nor mma.sync (sm_80): {without}"


def test_registers_and_shared_memory_are_as_recorded(report):
    if not report["aligned"]:
        pytest.skip("the table holds kernels with aligned pointers")
    if report["triton"] not in TABLE:
        pytest.skip(
            f"tests/kernels/compiled_kernels.json has no figures of triton {report['triton']}"
        )
    table = TABLE[report["triton"]]
    changed = {
        f"{name} on sm_{c}": f"{now}, recorded {table[c].get(name)}"
        for c, part in report["found"].items()
        for name, row in part.items()
        if (now := [row.get("registers"), row.get("shared")]) != table[c].get(name)
    }
    note = "if that is meant, run: python -m tests.kernels.compile_kernels --write"
    assert not changed, f"{json.dumps(changed, indent=1)}\n{note}"
    for c, part in table.items():
        assert set(part) == set(report["names"]), f"the record of sm_{c} lists others; {note}"
