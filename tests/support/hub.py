"""A hub on loopback: real HTTP for the real client, and no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from mlx_sidecar import pocket

COMMIT = "a" * 40
FILES = {
    path.name: path.read_bytes() for path in pocket.PATH.iterdir() if path.suffix in (".json", ".safetensors", ".jinja")
}
FILES |= {"evil.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"}


class Hub(BaseHTTPRequestHandler):
    """Serves one model, ``lab/pocket``, as the hub does; its weights once ``open`` is set, which then sets ``sent``."""

    asked: list[str]
    open: Event
    sent: Event
    instead: dict[str, bytes]  # what is sent in place of "tree", "revision" and files, with the length of the original

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name for it
        type(self).asked.append(self.path)

    def do_HEAD(self) -> None:  # the library's name for it
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path == f"/api/models/lab/pocket/tree/{COMMIT}":
            tree = [{"type": "file", "path": n, "size": len(data), "oid": _etag(data)} for n, data in FILES.items()]
            self._send(json.dumps(tree).encode(), with_body)
        elif path == "/api/models/lab/pocket/revision/main":
            siblings = [{"rfilename": n} for n in FILES]
            self._send(json.dumps({"id": "lab/pocket", "sha": COMMIT, "siblings": siblings}).encode(), with_body)
        elif path.startswith(f"/lab/pocket/resolve/{COMMIT}/") and name in FILES:
            if with_body and name == "model.safetensors":
                self.open.wait()
            self._send(FILES[name], with_body)
            if with_body and name == "model.safetensors":
                self.sent.set()
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if "/lab/pocket/" in path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        data = next((odd for part, odd in self.instead.items() if part in self.path), data)
        self.close_connection = True
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return sha1(data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, home: Path, **members: object) -> Iterator[None]:
    """Sidecars that are started meanwhile ask a hub that is ``Hub`` with ``members``, and cache in ``home``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (Hub,), members))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(home))
    yield
    server.shutdown()
    server.server_close()
