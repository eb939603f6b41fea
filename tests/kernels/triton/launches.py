"""Counts what a GPU would be sent: Triton launches and torch ops that are kernels. In Triton's
interpreter on the CPU, where every launch goes through the same Python.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snndelay.kernels.registered import RUNS
from snndelay.kernels.triton.readout import readout_fwd_kernel

FREE = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "lift_fresh")
TWICE = ("nll_loss_backward",)  # fills with zeros first
WAITS = ("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "lift_fresh")


class Launches(TorchDispatchMode):
    """Counts, by name, what runs within: ``triton`` kernels, ``torch`` kernels, registered
    ``ops``; and lists in ``waits`` what waits for the device or brings a host's number to it.
    """

    def __init__(self):
        super().__init__()
        self.triton, self.torch, self.ops = Counter(), Counter(), Counter()
        self.waits: list[str] = []

    @property
    def total(self) -> int:
        return self.triton.total() + self.torch.total()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = op.overloadpacket.__name__
        if op.namespace == "snndelay":
            self.ops[name] += 1
            with self:  # the body of a registered op runs below the dispatcher's Python modes
                return RUNS.get(name, op)(*args, **kwargs)
        if name in WAITS:
            self.waits.append(name)
        out = op(*args, **kwargs)
        made = {t.device for t in tree_leaves(out) if torch.is_tensor(t)}
        given = {t.device for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        if given and made - given:
            self.waits.append(f"{name} between devices")
        view = any(r.alias_info and not r.alias_info.is_write for r in op._schema.returns)
        if not view and name not in FREE:
            self.torch[name] += 2 if name in TWICE else 1
        return out

    def table(self) -> str:
        """Everything counted, a line each."""
        parts = {"triton": self.triton, "torch": self.torch, "registered": self.ops}
        rows = [f"{p:>10} {n:4} {name}" for p, c in parts.items() for name, n in c.most_common()]
        return "\n".join([*rows, f"{self.total} launches"])


@contextmanager
def counted() -> Iterator[Launches]:
    """``Launches`` of what runs within."""
    found, kernel = Launches(), type(readout_fwd_kernel)
    run = kernel.run

    def count(this, *args, **kwargs):
        found.triton[this.fn.__name__] += 1
        with torch._C._DisableTorchDispatch():  # the interpreter's own reads and writes
            return run(this, *args, **kwargs)

    kernel.run = count
    try:
        with found:
            yield found
    finally:
        kernel.run = run
