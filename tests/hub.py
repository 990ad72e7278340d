"""A local server with the part of the Hugging Face hub's API that its client needs for downloads."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def local_hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``folder/<owner>/<model>/<file>`` at the hub's paths.

    Yields the server's URL, and the list of the files fetched so far.
    """
    fetched: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def respond(self, *, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            if path.startswith("api/models/"):
                name = "/".join(path.split("/")[2:4])
                files = [{"rfilename": file.name} for file in sorted((folder / name).glob("*"))]
                content = json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode()
                self.reply(200 if files else 404, content if body else b"", content)
                return
            owner, model, _, _, *rest = [*path.split("/"), "", "", ""]
            file = folder / owner / model / "/".join(part for part in rest if part)
            if not file.is_file():
                self.reply(404, b"", b"", {"X-Error-Code": "EntryNotFound"})
                return
            content = file.read_bytes()
            if body:
                fetched.append(file.name)
            self.reply(200, content if body else b"", content)

        def reply(self, status: int, body: bytes, content: bytes, extra_headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            headers = {
                "Content-Length": str(len(content)),
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                **(extra_headers or {}),
            }
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
