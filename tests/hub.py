"""A local server with the part of the Hugging Face hub's API that its client needs for downloads and uploads."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_api

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: The token with which the server takes uploads.
TOKEN = "hf_secret"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """The hub's client asks this server and keeps downloads in this folder."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    resolve = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)


@contextmanager
def local_hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ``folder/<owner>/<model>/<file>`` at the hub's paths, and write there what is uploaded with `TOKEN`.

    Yields the server's URL, and the list of the files fetched so far.
    """
    fetched: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                content = b'{"error": "Invalid username or password."}'
                self.reply(401, content, content)
                return
            content = json.dumps(self.uploaded(self.path.split("?")[0].strip("/"), sent)).encode()
            self.reply(200, content, content)

        def uploaded(self, path: str, sent: bytes) -> dict[str, Any]:
            """Do what a POST asks for, and return the answer."""
            if path == "api/validate-yaml":
                return {"errors": [], "warnings": []}
            if path == "api/repos/create":
                asked = json.loads(sent)
                return {"url": f"{address}/{asked['organization']}/{asked['name']}"}
            _, _, owner, model, action, *_ = path.split("/")
            if action == "preupload":
                names = [file["path"] for file in json.loads(sent)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
                return {"files": modes}
            assert action == "commit"
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    target = folder / owner / model / line["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(line["value"]["content"]))
            url = f"{address}/{owner}/{model}/commit/{COMMIT}"
            return {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""}

        def respond(self, *, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            if path.startswith("api/models/"):
                name = "/".join(path.split("/")[2:4])
                files = sorted(file for file in (folder / name).rglob("*") if file.is_file())
                names = [file.relative_to(folder / name).as_posix() for file in files]
                answer: Any = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in names]}
                if path.split("/")[4:5] == ["tree"]:
                    answer = [
                        {"type": "file", "path": each, "size": file.stat().st_size, "oid": sha256(file.read_bytes())}
                        for each, file in zip(names, files, strict=True)
                    ]
                content = json.dumps(answer).encode()
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
                "ETag": f'"{sha256(content)}"',
                **(extra_headers or {}),
            }
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address, fetched
    finally:
        server.shutdown()
        server.server_close()
