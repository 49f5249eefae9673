"""Names to directories, with a hub of our own on loopback: real client, real HTTP, no network."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import huggingface_hub.errors
import pytest

from mlx_sidecar import pocket
from mlx_sidecar.front.api import model_paths as resolve
from mlx_sidecar_protocol.errors import InvalidParams, ModelNotFound, ModelUnsupported, UnsupportedParameter
from tests.support.hub import FILES, serving
from tests.support.sidecar import sidecar


@pytest.fixture
def gate() -> Iterator[tuple[Event, Event]]:
    """When the hub may send the weights, and whether it has."""
    opened, sent = Event(), Event()
    opened.set()
    yield opened, sent
    opened.set()


@pytest.fixture
def instead() -> dict[str, bytes]:
    """Parts of paths, with the hub's answers there."""
    return {}


@pytest.fixture
def hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gate: tuple[Event, Event], instead: dict[str, bytes]
) -> Iterator[list[str]]:
    """A hub for the sidecars of one test, and the requests it got."""
    asked: list[str] = []
    with serving(monkeypatch, tmp_path, asked=asked, open=gate[0], sent=gate[1], instead=instead):
        yield asked
        gate[0].set()


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache into which a sidecar has downloaded the model; nothing is to be changed in it."""
    home, opened = tmp_path_factory.mktemp("hub"), Event()
    opened.set()
    with pytest.MonkeyPatch.context() as patch:  # noqa: SIM117 - the hub's environment is the patch's
        with serving(patch, home, asked=[], open=opened, sent=Event(), instead={}), sidecar() as process:
            process.call("load", {"model": "lab/pocket"})
    return home


@pytest.fixture
def cached(downloaded: Path, tmp_path: Path) -> Path:
    """The cache of the sidecars of one test, which holds the model."""
    shutil.copytree(downloaded, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


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
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # no server listens
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with sidecar() as process:
        error = process.error("load", {"model": "lab/pocket"})
        assert error["data"]["kind"] == "model_not_found"
        assert "cannot be reached" in error["message"]


def test_a_cache_that_another_tool_filled_in_part_is_not_the_model_and_load_fetches_the_rest(
    hub: list[str], cached: Path
) -> None:
    lose(cached, "model.safetensors", listing=False)  # only our own way of downloading writes a listing
    with sidecar() as process:
        error = process.error("generate", {"model": "lab/pocket", "prompt": "Hello"})
        assert error["data"]["kind"] == "model_not_found"
        assert "not whole" in error["message"]
        assert hub == []
        assert process.call("load", {"model": "lab/pocket"})["state"] == "ready"
    assert any(path.endswith("/model.safetensors") for path in hub)


def lose(home: Path, name: str, *, listing: bool) -> None:
    """``name`` is not in the cache, as if the download had been stopped or, without ``listing``, another tool's."""
    for file in home.rglob(f"snapshots/*/{name}"):
        file.resolve().unlink()
        file.unlink()
    for file in home.rglob("trees/*.json") if not listing else ():
        file.unlink()


@pytest.mark.parametrize(
    ("name", "listing"),
    [("tokenizer.json", True), ("config.json", False), ("chat_template.jinja", True), ("chat_template.jinja", False)],
)
def test_whatever_a_cached_model_lacks_is_named_and_load_fetches_it(
    hub: list[str], cached: Path, name: str, listing: bool
) -> None:
    lose(cached, name, listing=listing)
    with sidecar() as process:
        if name != "chat_template.jinja" or listing:  # else there is no sign that there was one
            error = process.error("generate", {"model": "lab/pocket", "prompt": "Hello"})
            assert error["data"]["kind"] == "model_not_found"
            assert name in error["message"]
        assert hub == []
        assert process.call("load", {"model": "lab/pocket"})["state"] == "ready"
        chat = {"model": "lab/pocket", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        assert process.call("generate", chat)["text"]
    assert [path for path in hub if path.endswith(name)]
    assert not [path for path in hub if path.endswith("model.safetensors")]


def test_a_cached_model_that_may_lack_files_is_used_where_the_hub_is_not_to_be_asked(
    hub: list[str], cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(cached, "chat_template.jinja", listing=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with sidecar() as process:
        assert process.call("load", {"model": "lab/pocket"})["state"] == "ready"
    assert hub == []


def test_a_cached_model_that_may_lack_files_is_used_where_the_hub_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable:
        """A client that has given up trying: the library's own tries for half a minute."""

        errors = huggingface_hub.errors

        @staticmethod
        def snapshot_download(*_: object, **__: object) -> str:
            raise huggingface_hub.errors.LocalEntryNotFoundError("connection refused")

    monkeypatch.setattr(resolve, "hub_client", lambda name: Unreachable)
    assert resolve.fetch("lab/pocket", None, tmp_path, lambda done, total: None) == tmp_path
    with pytest.raises(ModelNotFound, match="cannot be reached"):
        resolve.fetch("lab/pocket", None, None, lambda done, total: None)


NONSENSE = [
    ("/revision/", b"<html>"),
    ("/revision/", b"[]"),
    ("/revision/", b"{}"),
    ("/revision/", b'{"id": "lab/pocket"}'),
    ("/revision/", b'{"id": "lab/pocket", "sha": 3, "siblings": 4}'),
    ("/tree/", b"<html>"),
    ("/tree/", b"{}"),
    ("/tree/", b"3"),
    ("/tree/", b'[{"type": "file"}]'),
    ("/tree/", b'[{"type": "file", "path": 3, "size": "x", "oid": []}]'),
    ("/config.json", b"{"),
]


def test_a_mirror_that_talks_nonsense_is_a_typed_error(hub: list[str], instead: dict[str, bytes]) -> None:
    with sidecar() as process:
        for part, sent in NONSENSE:
            instead.clear()
            instead[part] = sent + b" " * 4096  # the length is that of what is not sent, and more than this is not read
            error = process.error("load", {"model": "lab/pocket"})
            assert error["data"]["kind"] in ("model_not_found", "model_load_failed"), (part, sent)
            assert len(error["message"]) < 1200
        assert process.call("generate", {"model": "pocket", "prompt": "Hello", "max_tokens": 2})["text"]
    assert hub


def test_a_system_without_home_directories_has_directories_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ModelNotFound, match="Could not determine home"):
        resolve.local("owner/name")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.gguf", "is GGUF; `mlx-sidecar models import FILE --output DIR` makes a model directory of it"),
        ("weights.safetensors", "is a file; a model is a directory of safetensors"),
    ],
)
def test_a_file_is_no_model_and_says_so(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).touch()
    file = str(tmp_path / name)
    for model, path in ((file, None), ("m", file)):
        with pytest.raises(ModelUnsupported, match=f"'{name}' {told}"):
            resolve.local(model, path)


def test_a_directory_of_gguf_alone_is_unsupported(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").touch()
    with pytest.raises(ModelUnsupported, match="holds GGUF"):
        resolve.local("m", str(tmp_path))


@pytest.mark.parametrize("name", ["[a] b", "ü日本", "*?"])
def test_a_home_a_slash_at_the_end_and_a_link_lead_to_the_same_directory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / name
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(directory)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text in (f"~/{name}", f"{name}/", f"./{name}//", "link", str(directory)):
        assert resolve.local(text) == resolve.local("m", text) == directory
    assert resolve.adapter_path(f"~/{name}") == str(directory)


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
