"""Names to directories, with a hub of our own on loopback: real client, real HTTP, no network."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from mlx_sidecar import pocket
from mlx_sidecar.models import resolve
from mlx_sidecar_protocol.errors import InvalidParams, ModelNotFound, UnsupportedParameter
from tests.support.sidecar import sidecar

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
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def gate() -> Iterator[tuple[Event, Event]]:
    """When the hub may send the weights, and whether it has."""
    opened, sent = Event(), Event()
    opened.set()
    yield opened, sent
    opened.set()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gate: tuple[Event, Event]) -> Iterator[list[str]]:
    """A hub for the sidecars of one test, and what it was asked for."""
    asked: list[str] = []
    handler = type("Hub", (Hub,), {"asked": asked, "open": gate[0], "sent": gate[1]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    yield asked
    gate[0].set()
    server.shutdown()
    server.server_close()


def test_load_downloads_a_hub_model_with_progress_and_generate_finds_it_afterwards(hub: list[str]) -> None:
    with sidecar() as process:
        card = process.call("load", {"model": "lab/pocket", "progress": "p"})
        assert card["architecture"] == "qwen3"
        downloading = [
            frame["params"]
            for frame in process.frames
            if frame.get("method") == "progress" and frame["params"]["stage"] == "downloading"
        ]
        assert downloading[-1]["done_bytes"] >= len(FILES["model.safetensors"])
        assert not [path for path in hub if path.endswith((".py", ".bin"))]
    before = len(hub)
    with sidecar() as process:
        assert process.call("generate", {"model": "lab/pocket", "prompt": "Hello", "max_tokens": 4})["text"]
    assert len(hub) == before  # from the cache alone


def test_generate_never_downloads(hub: list[str]) -> None:
    with sidecar() as process:
        error = process.error("generate", {"model": "lab/pocket", "prompt": "Hello"})
        assert error["data"]["kind"] == "model_not_found"
        assert "load downloads it" in error["message"]
    assert hub == []


@pytest.mark.parametrize(
    ("params", "says"),
    [({"model": "lab/other"}, "does not know it"), ({"model": "lab/pocket", "revision": "v9"}, "no revision 'v9'")],
)
def test_what_the_hub_does_not_have_is_model_not_found(hub: list[str], params: dict[str, str], says: str) -> None:
    with sidecar() as process:
        error = process.error("load", params)
        assert error["data"]["kind"] == "model_not_found"
        assert says in error["message"]


def test_a_hub_that_cannot_be_reached_is_model_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with sidecar() as process:
        error = process.error("load", {"model": "lab/pocket"})
        assert error["data"]["kind"] == "model_not_found"
        assert "cannot be reached" in error["message"]


def test_a_cache_that_another_tool_filled_in_part_is_not_the_model_and_load_fetches_the_rest(
    hub: list[str], tmp_path: Path
) -> None:
    with sidecar() as process:
        process.call("load", {"model": "lab/pocket"})
    for weights in tmp_path.rglob("snapshots/*/model.safetensors"):
        weights.resolve().unlink()
        weights.unlink()
    for listing in tmp_path.rglob("trees/*.json"):  # only our own way of downloading writes one
        listing.unlink()
    hub.clear()
    with sidecar() as process:
        error = process.error("generate", {"model": "lab/pocket", "prompt": "Hello"})
        assert error["data"]["kind"] == "model_not_found"
        assert "not whole" in error["message"]
        assert hub == []
        assert process.call("load", {"model": "lab/pocket"})["state"] == "ready"
    assert any(path.endswith("/model.safetensors") for path in hub)


def test_a_cancelled_download_goes_on_in_silence(hub: list[str], gate: tuple[Event, Event]) -> None:
    may_send, sent = gate
    may_send.clear()
    with sidecar() as process:
        loading = process.request("load", {"model": "lab/pocket", "progress": "p"})
        process.notification("progress", token="p", stage="downloading")
        process.notify("$/cancelRequest", {"id": loading})
        assert process.answer(loading)["error"]["data"]["kind"] == "cancelled"
        answered = len(process.frames)
        may_send.set()
        sent.wait()
        assert process.call("load", {"model": "lab/pocket"})["state"] == "ready"
        assert not [frame for frame in process.frames[answered:] if frame.get("method") == "progress"]


def test_a_signal_ends_a_sidecar_in_the_middle_of_a_download(hub: list[str], gate: tuple[Event, Event]) -> None:
    gate[0].clear()
    with sidecar() as process:
        loading = process.request("load", {"model": "lab/pocket", "progress": "p"})
        process.notification("progress", token="p", stage="downloading")
        process.process.send_signal(signal.SIGTERM)
        assert process.answer(loading)["error"]["data"]["kind"] == "cancelled"
        assert process.exit_status() == 128 + signal.SIGTERM


@pytest.mark.parametrize("name", ["x" * 3000, "~nobody-at-all/x", "owner/a..b", "/dev/null/model"])
def test_a_name_that_no_file_system_or_hub_takes_is_model_not_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        resolve.local(name)


@pytest.mark.parametrize("path", ["x" * 3000, "~nobody-at-all/x", "/dev/null"])
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        resolve.local("m", path)
    assert refused.value.data["errors"][0]["loc"] == ["path"]


def test_a_revision_of_what_is_a_directory_is_refused_by_name() -> None:
    for name, path in (("pocket", None), (str(pocket.PATH), None), ("m", str(pocket.PATH))):
        with pytest.raises(UnsupportedParameter, match="no revisions"):
            resolve.local(name, path, "main")
