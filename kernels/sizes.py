"""Sizes in whole tiles. (``triton.cdiv`` serves kernels too, and takes 2 us at the host.)"""


def cdiv(n: int, size: int) -> int:
    """How many tiles of a size cover n."""
    return -(-n // size)


def up(n: int, multiple: int) -> int:
    """n rounded up to a multiple."""
    return -(-n // multiple) * multiple
