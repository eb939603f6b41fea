"""The device of a launch: Triton launches on the current one, wherever the tensors lie."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def on_its_device(run: Callable[P, R]) -> Callable[P, R]:
    """``run`` with the device of its first argument, a tensor, as the current one; that costs
    nothing but a comparison where it is. CPU tensors, of the interpreter, pass.
    """

    @wraps(run)
    def guarded(*arguments: P.args, **named: P.kwargs) -> R:
        near = arguments[0]
        assert isinstance(near, Tensor)
        if not near.is_cuda or near.get_device() == torch.cuda.current_device():
            return run(*arguments, **named)
        with torch.cuda.device(near.device):
            return run(*arguments, **named)

    return guarded
