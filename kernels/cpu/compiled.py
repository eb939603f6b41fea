"""Compiling with numba, and keeping what was compiled where there is a place for it."""

import logging
from collections.abc import Callable
from functools import cache

from numba import njit


def compiled(**options: bool | str) -> Callable[[Callable], Callable]:
    """``numba.njit`` with these options, kept on disk: in NUMBA_CACHE_DIR, beside the source, or
    in the user's cache folder. Where none can be written, as in a read-only installation without a
    home, every process compiles for itself, and one line says so.
    """

    def decorate(f: Callable) -> Callable:
        try:
            return njit(cache=True, **options)(f)
        except RuntimeError as error:  # numba has no kind of its own for it
            if "no locator available" not in str(error):
                raise
            _say()
            return njit(**options)(f)

    return decorate


@cache
def _say() -> None:
    logging.getLogger("snndelay").warning(
        "compiled kernels cannot be kept, so every start takes a minute longer: set "
        "NUMBA_CACHE_DIR to a folder that can be written"
    )
