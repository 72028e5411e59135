"""A hub of one repository at loopback: what `huggingface_hub` asks of the real one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """files: name -> bytes, of `owner/tiny`. `breaks`: bytes after which the next body is cut off.
    `asked`: (method, path, Range) of each request."""

    def __init__(self, files: dict[str, bytes]):
        self.files, self.breaks = files, 0
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.partition("?")[0]
                hub.asked.append((self.command, path, self.headers.get("Range")))
                if path.startswith("/api/models/owner/tiny"):
                    asked = re.search("/(?:revision|tree)/([^/]+)", path)
                    revision = asked[1] if asked else "main"
                    if revision not in ("main", COMMIT):
                        return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
                    if "/tree/" in path:
                        tree = [
                            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                            for name, data in hub.files.items()
                        ]
                        return self.send(200, json.dumps(tree).encode(), {}, body)
                    found = {
                        "id": "owner/tiny", "sha": COMMIT,
                        "siblings": [{"rfilename": name} for name in hub.files],
                    }  # fmt: skip
                    return self.send(200, json.dumps(found).encode(), {}, body)
                name = path.removeprefix("/owner/tiny/resolve/").partition("/")[2]
                if path.startswith("/owner/tiny/resolve/") and name in hub.files:
                    return self.file(hub.files[name], body)
                code = "EntryNotFound" if path.startswith("/owner/tiny") else "RepoNotFound"
                return self.send(404, b"{}", {"X-Error-Code": code}, body)

            def file(self, data: bytes, body: bool) -> None:
                head = {
                    "X-Repo-Commit": COMMIT,
                    "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
                    "Accept-Ranges": "bytes",
                }
                span = self.headers.get("Range")
                if span is None or not body:
                    return self.send(200, data, head, body)
                begin = int(span.removeprefix("bytes=").partition("-")[0])
                head["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                return self.send(206, data[begin:], head, body)

            def send(self, status: int, data: bytes, head: dict[str, str], body: bool) -> None:
                self.send_response(status)
                for key, value in {**head, "Content-Length": str(len(data))}.items():
                    self.send_header(key, value)
                self.end_headers()
                if not body:
                    return
                if 0 < hub.breaks < len(data):
                    self.wfile.write(data[: hub.breaks])
                    hub.breaks = 0
                    self.close_connection = True
                    return
                self.wfile.write(data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
