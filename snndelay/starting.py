"""How this process was started: alone or by torchrun, beside others; and Ctrl-C meanwhile: the
imports take a second or two, and a traceback from among them says nothing. It is answered as soon
as this module is imported. And what the screen can show.
"""

import io
import os
import signal
import sys
import threading

OURS = ("train.py", "snndelay", "-m")  # `python -m snndelay` is -m while the package is imported


def quiet_start() -> None:
    """Ctrl-C ends the program at once with code 130, if the program is one of ours, until
    `started`."""
    if sys.argv and os.path.basename(sys.argv[0]) in OURS and _may_be_set():
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def started_together() -> bool:
    """Whether torchrun, or whoever sets what it sets, started several processes."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def not_first() -> bool:
    """Whether this is one of several processes, and not the one that speaks for all."""
    return started_together() and os.environ.get("RANK", "0") != "0"


def started() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt as ever."""
    if _may_be_set():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def write_anything() -> None:
    """From here on the screen shows characters that its encoding lacks, or that are none, as
    escapes: names of classes and files may hold any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _may_be_set() -> bool:
    """Whether nobody else answers SIGINT or has it ignored, as a shell does in the background."""
    handler = signal.getsignal(signal.SIGINT)
    ours = callable(handler) and getattr(handler, "__module__", "") == __name__
    usual = handler is signal.default_int_handler or ours
    return usual and threading.current_thread() is threading.main_thread()


quiet_start()
