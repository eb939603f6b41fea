"""Work for processes, in a module that is quick to import, and whether any is left."""

import os
import time
from multiprocessing import util
from pathlib import Path


def double(number: int) -> tuple[int, int]:
    """Twice the number, and which process says so; negative numbers kill their process, and large
    ones take long."""
    if number < 0:
        os._exit(9)
    if number > 99:
        time.sleep(number)
    return 2 * number, os.getpid()


def leave_a_note(path: str) -> str:
    """Has its process write a file at its end, half a second after it began to tidy up."""
    util.Finalize(None, time.sleep, (0.5,), exitpriority=2)
    util.Finalize(None, Path(path).touch, exitpriority=1)
    return path


def any_of_group(group: int) -> bool:
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
