"""Kernels in Triton. It keeps what it compiles under the user's home: where nobody can write there,
in a folder that goes with the process.
"""

import atexit
import os
import shutil
import tempfile


def _folder_for_compiled() -> None:
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    folder = os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache")
    try:
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    except OSError:
        pass
    os.environ["TRITON_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="triton-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


_folder_for_compiled()
