"""Work for processes, in a module that is quick to import."""

import os
import time


def double(number: int) -> tuple[int, int]:
    """Twice the number, and which process says so; negative numbers kill their process, and large
    ones take long."""
    if number < 0:
        os._exit(9)
    if number > 99:
        time.sleep(number)
    return 2 * number, os.getpid()
