"""Records docs/examples.jsonl: conversations for the methods and errors that no golden session shows.

``python tools/docs_record.py`` writes the file; ``--check`` compares what is asked and answered, by names of members,
and ends with status 1 where they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from docs_golden import RECORDED, ROOT, shortened
from mlx_sidecar_conformance.normal import steady
from mlx_sidecar_conformance.recording import Host
from mlx_sidecar_conformance.sessions import LONG, Session, answer, call, delta, generate, refused

POCKET = ROOT / "runtime" / "mlx_sidecar" / "pocket"
HOME = "HOME"  # stands for the folder of this run, also in what is written
SHOWN = {HOME: "/home/ada", str(POCKET): "/usr/lib/mlx-sidecar/pocket"}
REAL = ["--engine", "mlx"]
LONG_TEXT = "x" * 9000
HEAT = [{"role": "system", "content": "You answer briefly. " * 20}, {"role": "user", "content": "What is a delta?"}]

SESSIONS = [
    Session(
        "text-and-figures",
        "tokens to text, a rendered chat, figures, the document; models on this machine, of which one is deleted",
        [
            *call(1, "detokenize", model="fake", tokens=[104, 105]),
            *call(2, "render", model="fake", messages=[{"role": "user", "content": "Hi"}]),
            *call(3, "stats"),
            *call(4, "rpc.discover"),
            *call(5, "local/list", model="pocket"),
            *call(6, "local/delete", model="lab/pocket"),
        ],
    ),
    Session(
        "with-a-model",
        "a prefix that is pinned and goes to a file and back; adapters; a session that goes to a file and back",
        [
            *call(1, "cache/warm", model="pocket", messages=HEAT),
            *call(2, "cache/export", model="pocket", messages=HEAT, path=f"{HOME}/prefix.safetensors"),
            *call(3, "cache/stats"),
            *call(4, "cache/clear", model="pocket"),
            *call(5, "cache/import", model="pocket", path=f"{HOME}/prefix.safetensors"),
            *call(6, "adapter/load", model="pocket", adapter="legal", path=f"{HOME}/legal"),
            *call(7, "adapters", model="pocket"),
            *call(8, "adapter/unload", model="pocket", adapter="legal"),
            *call(9, "adapter/load", model="pocket", adapter="legal", path=f"{HOME}/nowhere"),
            *call(10, "adapter/load", model="pocket", adapter="legal", path=f"{HOME}/dora"),
            *call(11, "generate", model="pocket", prompt="Hello", adapter="medical"),
            *call(12, "session/open", model="pocket", messages=HEAT[:1]),
            *call(13, "session/export", session="session_1", path=f"{HOME}/chat.session"),
            *call(14, "session/import", path=f"{HOME}/chat.session"),
        ],
        REAL,
    ),
    Session(
        "odd-lines",
        "lines that are no requests, initialized before initialize, a model that is not to be loaded on the side",
        [
            ("raw", '{"jsonrpc": '),
            answer(None),
            ("raw", "[" * 200 + "]" * 200),
            answer(None),
            ("say", {"jsonrpc": "2.0", "id": 1, "method": "initialized"}),
            answer(1),
            *call(2, "tokenize", model="fake", text="abc"),
        ],
        ["--no-autoload"],
    ),
    Session(
        "beyond-bounds",
        "more than limits that were set low; a model too large, a deadline too near",
        [
            ("raw", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"long": LONG_TEXT}})),
            answer(None),
            ("say", [{"jsonrpc": "2.0", "id": number, "method": "ping"} for number in range(3)]),
            answer(None),
            *call(4, "detokenize", model="fake", tokens=[97] * 1200),
            *call(5, "session/open", model="fake"),
            *call(6, "session/open", model="fake"),
            *call(7, "load", model="fake?memory_bytes=1000000000000000"),
            *call(8, "embed", model="fake?dimensions=4&load_ms=2000", input=["a stone"], deadline_s=0.05),
        ],
        ["--frame-limit-bytes", "8192", "--batch-limit", "2", "--values-limit", "1000", "--sessions-limit", "1"],
    ),
    Session(
        "streams",
        "a model that a stream runs on, an id that is taken, an ack by a request, a request that ends every engine",
        [
            generate(1, f"text=ab&{LONG}", stream="a"),
            delta("a"),
            *call(2, "unload", model=f"fake?text=ab&{LONG}"),
            generate(1, "text=Hi."),
            ("hear", {"id": 1, "error": {"data": {"kind": "duplicate_id"}}}),
            *call(3, "stream/cancel", stream="a"),
            answer(1),
            generate(4, "text=ab&delay_ms=300", stream="b", window=1),
            delta("b"),
            *call(5, "stream/ack", stream="b", seq=0),
            answer(4),
            *refused(6, "text=abc&poison_after=1"),
        ],
    ),
]


class Recorder(Host):
    """A host that can also send text that is no frame."""

    def raw(self, text: str) -> None:
        self._note("host", text, text.encode())
        assert self.process.stdin
        self.process.stdin.write(text.encode() + b"\n")


def record(session: Session, folder: Path, sidecar: list[str]) -> Iterator[dict[str, Any]]:
    """The lines of a session, as in a golden one."""
    os.environ["HF_HOME"] = str(folder / "hub-home")
    host = Recorder([*sidecar, "serve", "--engine", "fake", *session.options], False)
    try:
        for step, what in session.steps:
            actual = json.loads(json.dumps(what).replace(HOME, str(folder)))
            {"say": host.say, "hear": host.hear, "raw": host.raw}[step](actual)
        host.leave()
    finally:
        host.process.kill()
        host.process.wait()
    yield {"session": session.name, "about": session.about, "options": session.options}
    for line in host.lines:
        yield {"from": line["from"], "frame": shortened(steady(host.handles.numbered(line["frame"])))}


def recorded(sidecar: list[str]) -> str:
    """Return the text of the file, by sessions with ``sidecar``."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write_adapters(folder)
        _write_hub(folder / "hub-home" / "hub" / "models--lab--pocket")
        lines = [line for session in SESSIONS for line in record(session, folder, sidecar)]
        text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
        for actual, shown in {str(folder): SHOWN[HOME], **SHOWN}.items():
            text = text.replace(actual, shown)
    return text


def _write_adapters(folder: Path) -> None:
    """Make an adapter of ones for pocket, and one that says it is of another kind."""
    config = json.loads((POCKET / "config.json").read_text())
    width, queries = config["hidden_size"], config["num_attention_heads"] * config["head_dim"]
    path = "model.layers.0.self_attn.q_proj"
    tensors = {
        f"{path}.lora_a": np.ones((width, 4), np.float32),
        f"{path}.lora_b": np.ones((4, queries), np.float32),
    }
    parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    for name, kind in (("legal", "lora"), ("dora", "dora")):
        (folder / name).mkdir()
        save_file(tensors, folder / name / "adapters.safetensors")
        described = {"fine_tune_type": kind, "num_layers": -1, "lora_parameters": parameters}
        (folder / name / "adapter_config.json").write_text(json.dumps(described))


def _write_hub(folder: Path) -> None:
    """Put pocket into a hub's cache, under another name."""
    revision = "a" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    shutil.copytree(POCKET, folder / "snapshots" / revision, ignore=shutil.ignore_patterns("*.py", "*.md", "__*"))


def outline(text: str) -> list[str]:
    """Return what the sessions ask and answer, without values: names of sessions, methods, errors, members."""
    outlined = []
    for line in map(json.loads, text.splitlines()):
        frame = line.get("frame", line)
        if not isinstance(frame, dict) or frame.get("method") in ("stream/interrupted", "engine/state"):
            continue
        members = frame.get("result") or frame.get("params") or frame.get("error", {}).get("data") or frame
        outlined.append(f"{frame.get('session') or frame.get('method') or frame.get('id')} {sorted(members)}")
    return outlined


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Record the examples of the reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where another thing is answered")
    options = parser.parse_args(arguments)
    text = recorded([sys.executable, "-m", "mlx_sidecar"])
    if not options.check:
        RECORDED.write_text(text, encoding="utf-8")
        return 0
    have = outline(RECORDED.read_text(encoding="utf-8"))
    missing = [line for line in outline(text) if line not in have]
    sys.stdout.writelines(f"not in docs/examples.jsonl: {line}\n" for line in missing)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
