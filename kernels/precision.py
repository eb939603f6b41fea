"""How exact delay convolutions are on a GPU: as exact as torch's switches want any convolution."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

PARTS = {"highest": 3, "default": 2, "fast": 1}  # of 8 bits each, see triton/delay.py


def triton_precision() -> str:
    """Precision of the Triton delay convolution, by torch's own switches.

    One rule: a delay convolution may err as much as torch lets any convolution err.

    - ``highest`` (float32) where TF32 is forbidden to cuDNN's convolutions:
      ``torch.backends.cudnn.allow_tf32 = False``, or ``torch.backends.cudnn.conv.fp32_precision``
      (or what that inherits from) other than ``"tf32"``.
    - ``default`` (weights to 2^-16, TF32 has 2^-11) where it is allowed, as torch starts.
    - ``fast`` (bfloat16) where it is allowed and ``torch.set_float32_matmul_precision("medium")``
      asks for bfloat16.

    Returns:
        ``highest``, ``default`` or ``fast``; triton/delay.py says what each computes and errs. A
        graph of ``torch.compile`` keeps what held when it was compiled.
    """
    # what the two interfaces set is one state; reading the older one raises where they were mixed
    if torch.backends.cudnn.conv.fp32_precision != "tf32":
        return "highest"
    try:
        asked = torch.get_float32_matmul_precision()
    except RuntimeError:  # mixed: "medium" can be asked for through the older interface only
        return "default"
    return "fast" if asked == "medium" else "default"


def products_in_tf32() -> bool:
    """Whether torch multiplies float32 matrices in TF32 on a GPU, as the backend ``fft`` does."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# dynamo cannot trace what reads the switches; this is torch.compiler.assume_constant_result without
# the second that importing dynamo takes
triton_precision._dynamo_marked_constant = True


def exact(x: Tensor) -> AbstractContextManager:
    """Within, autocast reaches no product with ``x``: an op of delays computes in the type of its
    input, whatever its size and way.
    """
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # meta
        return nullcontext()
    return torch.autocast(device, enabled=False)
