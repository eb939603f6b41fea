"""Precision of float32 products in a run: torch's own switches, set for its time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# name -> what cuDNN multiplies in, and torch.set_float32_matmul_precision's word
PRECISIONS = {
    "highest": ("ieee", "highest"),
    "default": ("tf32", "highest"),
    "fast": ("tf32", "medium"),
}


@contextmanager
def float32_precision(name: str | None) -> Iterator[None]:
    """Sets torch's own switches for float32 products, which the delays obey too
    (``kernels.precision``), and puts them back; None leaves them alone.
    """
    if name is None:
        yield
        return
    cudnn, cuda, cpu = torch.backends.cudnn, torch.backends.cuda, torch.backends.mkldnn
    parts = (cudnn.conv, cudnn.rnn, cuda.matmul, cpu.matmul)
    before = [part.fp32_precision for part in parts]
    try:
        word = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch's older and newer switches were mixed: the newer ones decide
        word = "highest"
    try:
        convolutions, products = PRECISIONS[name]
        cudnn.allow_tf32 = convolutions == "tf32"
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = convolutions
        torch.set_float32_matmul_precision(products)
        yield
    finally:
        # the older switches set the newer ones too, and disagree with them if they are left out
        cudnn.allow_tf32 = before[0] == "tf32"
        torch.set_float32_matmul_precision(word)
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value
