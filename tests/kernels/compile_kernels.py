"""Compiles every variant of the Triton kernels for GPUs that need not be there, and says what each
takes. `test_compile.py` compares with the committed table, which this writes anew:

    python -m tests.kernels.compile_kernels --write

The table holds [registers, bytes of shared memory] by version of Triton, capability and variant:
run this under each version that shall be compared. As a module, since as a file it would find the
folder `triton` beside it in the place of the package; and not under TRITON_INTERPRET=1, which is
why the test starts a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TABLE = Path(__file__).with_name("compiled_kernels.json")
CAPABILITIES = (80, 90)
PRODUCTS = {80: "mma.sync", 90: "wgmma"}  # a tensor core's instruction in PTX


def all_variants() -> dict:
    """Variants of all kernels by name."""
    from snndelay.kernels.triton.variants import variants

    found = variants()
    by_name = {v.name: v for v in found}
    assert len(by_name) == len(found), "two variants share a name"
    return by_name


def compiled(variant, capability: int, aligned: bool = True) -> dict:
    """Registers and bytes of shared memory, stack and local memory of one variant, and whether its
    PTX holds tensor-core products.

    aligned: pointers are multiples of 16 bytes, as those of whole tensors are; a view may start
    anywhere, and Triton compiles for that anew. An integer type that ends in ``:16`` promises a
    multiple of 16.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    types = {n: "constexpr" if n in variant.constexprs else variant.types[n] for n in names}
    multiple = [["tt.divisibility", 16]]
    promised = r"\*|.*:16" if aligned else ".*:16"
    attributes = {(i,): multiple for i, t in enumerate(types.values()) if re.match(promised, t)}
    types = {n: t.removesuffix(":16") for n, t in types.items()}
    source = ASTSource(variant.kernel, types, variant.constexprs, attributes)
    options = {
        "num_warps": variant.num_warps,
        "num_stages": variant.num_stages,
        "enable_fp_fusion": variant.tensor_cores,  # as launched: scans must round like torch
    }
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "registers": used["REG"],
        "shared": kernel.metadata.shared,
        "stack": used["STACK"],
        "local": used["LOCAL"],
        "products": variant.tensor_cores and PRODUCTS[capability] in kernel.asm["ptx"],
        "tensor_cores": variant.tensor_cores,
    }


def _job(job: tuple[str, int, bool]) -> tuple[str, int, dict]:
    name, capability, aligned = job
    try:
        return name, capability, compiled(all_variants()[name], capability, aligned)
    except Exception as error:  # a kernel that does not compile is a result, not the end
        return name, capability, {"error": f"{type(error).__name__}: {error}"[-2000:]}


def compile_all(names: list[str], aligned: bool, processes: int = 2) -> dict:
    """capability -> name -> what `compiled` says, or its error."""
    found = {str(c): {} for c in CAPABILITIES}
    jobs = [(name, c, aligned) for name in names for c in CAPABILITIES]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for name, capability, result in pool.imap_unordered(_job, jobs):
            found[str(capability)][name] = result
    return {c: dict(sorted(rows.items())) for c, rows in found.items()}


def write(version: str, found: dict) -> None:
    """Puts the figures of a version of Triton into the table, a line per variant.

    Exits if a variant did not compile, spilled or missed the tensor cores.
    """
    for capability, part in found.items():
        for name, row in part.items():
            if "error" in row or row["stack"] or row["local"]:
                sys.exit(f"{name} on sm_{capability}: {row}")
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    table[version] = {
        c: {name: [row["registers"], row["shared"]] for name, row in part.items()}
        for c, part in found.items()
    }
    text = json.dumps(table, indent=1)
    TABLE.write_text(re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="Write the committed table.")
    parser.add_argument("--unaligned", action="store_true", help="Pointers may point anywhere.")
    parser.add_argument("--only", default="", help="Compile variants whose name starts so.")
    o = parser.parse_args()
    if os.environ.pop("TRITON_INTERPRET", None):
        sys.exit("unset TRITON_INTERPRET: nothing is compiled in the interpreter")
    import triton

    if o.write and (o.unaligned or o.only):
        parser.error("the table holds all variants, aligned")
    names = [name for name in all_variants() if name.startswith(o.only)]
    found = compile_all(names, not o.unaligned)
    if o.write:
        write(triton.__version__, found)
    else:
        print(json.dumps({"triton": triton.__version__, "names": names, "found": found}))


if __name__ == "__main__":
    main()
