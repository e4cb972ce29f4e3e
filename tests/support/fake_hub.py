"""A Hugging Face Hub on this machine: it serves folders, and takes what is uploaded to it."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "76543210fedcba9876543210fedcba9876543210"


class FakeHub(BaseHTTPRequestHandler):
    """Of ``folders``, which has (kind, name, revision) to a folder; uploads go to ``uploaded``."""

    folders: dict[tuple[str, str, str], Path] = {}
    uploaded: dict[str, bytes] = {}
    asked: list[str] = []

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.asked.append(f"POST {path}")
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'user'}/{wanted['name']}"
            self._json({"url": f"{self._address}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.uploaded[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            url = f"{self._address}/user/mine/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        else:
            self._json({"error": "no such thing"}, 404)

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(f"{self.command} {path}")
        for (kind, name, revision), folder in self.folders.items():
            commit = COMMIT if revision == "main" else OTHER
            prefix = f"/{name}" if kind == "model" else f"/datasets/{name}"
            for said in (revision, commit):
                if path == f"/api/{kind}s/{name}/revision/{said}":
                    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*.*")]
                    siblings = [{"rfilename": file} for file in files]
                    self._json({"id": name, "sha": commit, "siblings": siblings, "private": False})
                    return
                if path.startswith(f"/api/{kind}s/{name}/tree/{said}"):
                    tree = [
                        {"type": "file", "path": file.relative_to(folder).as_posix(), "oid": "a" * 40,
                         "size": file.stat().st_size}
                        for file in folder.rglob("*") if file.is_file()
                    ]  # fmt: skip
                    self._json(tree)
                    return
                if path.startswith(f"{prefix}/resolve/{said}/"):
                    self._file(folder / path.removeprefix(f"{prefix}/resolve/{said}/"), commit)
                    return
        self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, said in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, said)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, path: Path, commit: str) -> None:
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def fake_hub(folders: dict[tuple[str, str, str], Path]) -> Iterator[tuple[str, type[FakeHub]]]:
    """Its address, and its class, which knows what was asked and uploaded."""
    own: Any = type("Own", (FakeHub,), {"folders": folders, "uploaded": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), own)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", own
    finally:
        server.shutdown()
        server.server_close()
