"""A device that does not exist: tensors on it have shapes and no values, so that a step which asks
for a value, or copies from or to the host, cannot run. What passes here records as a CUDA graph.

The device is called `lazy`, for which every build of torch has autograd; for `cuda` a build without
CUDA has none.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from snndelay.kernels import dispatch

DEVICE = torch.device("lazy")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")
WITHOUT_SHAPES = ("_fused_adam_", "_fused_adamw_", "_fused_sgd_")  # torch has no fakes of these


class Watch(TorchDispatchMode):
    """Raises AssertionError at an op that waits for the device, or that sees or makes a tensor
    elsewhere; unless `strict`, only ops without fakes are stepped over."""

    def __init__(self, strict: bool = True):
        super().__init__()
        self.strict = strict

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not self.strict or name not in WAITS, f"{func} waits for the device"
        self.check(func, (args, kwargs))
        if name in WITHOUT_SHAPES:
            return None
        result = func(*args, **(kwargs or {}))
        self.check(func, result)
        return result

    def check(self, func, tree) -> None:
        for thing in tree_flatten(tree)[0]:
            if self.strict and torch.is_tensor(thing):
                place = f"{tuple(thing.shape)}, {thing.dtype}"
                assert thing.device.type == DEVICE.type, f"{func} has a host tensor: {place}"


_OF_TORCH = torch.autocast


def _autocast(device_type: str, *args, **kwargs) -> torch.autocast:
    """torch's own, which does not know DEVICE."""
    return _OF_TORCH("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


@contextmanager
def absent_device() -> Iterator[None]:
    """Within, tensors can be made on DEVICE, and Triton's registered ops take them."""
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), Watch(strict=False):
        patch.setattr(torch, "autocast", _autocast)
        patch.setitem(dispatch.NEEDS, "triton", DEVICE.type)
        patch.setattr(dispatch, "_choose_once", dispatch.choose)
        for name in ("adam", "sgd"):
            module = importlib.import_module(f"torch.optim.{name}")
            patch.setattr(module, "_device_dtype_check_for_fused", lambda *_: None)
        yield


def moved(net: nn.Module) -> nn.Module:
    """A network whose parameters and buffers have been put on DEVICE."""
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, old in tensors.items():
                if old is not None:
                    new = torch.empty_strided(
                        old.shape, old.stride(), dtype=old.dtype, device=DEVICE
                    )
                    learned = isinstance(old, nn.Parameter)
                    tensors[name] = nn.Parameter(new, old.requires_grad) if learned else new
    return net


def counts(*shape: int) -> torch.Tensor:
    """A tensor on DEVICE, float32."""
    return torch.empty(shape, device=DEVICE)


def labels(n: int) -> torch.Tensor:
    """Classes on DEVICE, int64."""
    return torch.empty(n, dtype=torch.int64, device=DEVICE)
