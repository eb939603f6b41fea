"""A server of files on this machine, which can break off or refuse ranges, and notes requests."""

import contextlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Files:
    """What `served` serves: `content`, name -> bytes; `break_after`: bytes after which connections
    end, one entry for each of the next ones; `ranges`: whether ranges are understood; `asked`: the
    range header of every request, "" without. `trickle`: bytes that come every 50 ms, 0: none."""

    def __init__(self, content: dict[str, bytes]):
        self.content, self.break_after, self.ranges = content, [], True
        self.trickle: int | None = None
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def served(content: dict[str, bytes]):
    """Serves files on a free port of this machine while the block runs; gives `Files`."""
    files = Files(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range", "")
            files.asked.append(wanted)
            body = files.content.get(self.path.strip("/"))
            if body is None:
                self.send_error(404)
                return
            start = int(wanted[6:-1]) if wanted and files.ranges else 0
            if start and start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            most = files.break_after.pop(0) if files.break_after else len(body)
            if files.trickle is None:
                self.wfile.write(body[start : start + most])
                return
            with contextlib.suppress(OSError):  # the client goes
                for at in range(start, len(body), files.trickle or len(body)):
                    self.wfile.write(body[at : at + files.trickle])
                    for _ in range(1 if files.trickle else 40):
                        time.sleep(0.05)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
