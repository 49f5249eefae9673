"""For the tests of the Python client: a sidecar with the fake engine, and one that is a script."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from mlx_sidecar_client import Sidecar, Stream, StreamDelta
from mlx_sidecar_client.parameters import OnEngineState, SpawnOptions

PATIENCE_S = 60.0  # far beyond what anything takes: a test that gets here has found a hang
COMMAND = [sys.executable, "-m", "mlx_sidecar"]
FAKE: SpawnOptions = {"command": COMMAND, "options": ["--engine", "fake"]}
ENDLESS = "fake?tokens=1000000&delay_ms=1"

# Answers initialize, and then every request with the next of the lines it was given, before which it sends the lines
# that are no answers.
_PEER = """
import json, sys
lines = json.loads(sys.argv[1])
for request in map(json.loads, sys.stdin):
    if "id" not in request:
        continue
    if request["method"] == "initialize":
        answer = json.loads(sys.argv[2])
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}), flush=True)
        continue
    if request["method"] == "shutdown":
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}), flush=True)
        break
    while lines:
        line = lines.pop(0)
        text = json.dumps(line)
        text = text.replace('"ID"', json.dumps(request["id"]))
        text = text.replace('"STREAM"', json.dumps(request.get("params", {}).get("stream")))
        print(text, flush=True)
        if line.get("id") == "ID":
            break
"""
_HELLO = {
    "protocol_version": 1,
    "server": {"name": "peer", "version": "9"},
    "instance": "1",
    "capabilities": {
        "methods": [],
        "generate_parameters": [],
        "autoload": True,
        "cache": {"ram": False, "disk": False},
    },
    "limits": {"frame_bytes": 1 << 20, "header_bytes": 100, "batch": 10, "nesting": 20, "journal_bytes": 1},
    "of_a_later_version": {"more": 1},
}


def peer(tmp_path: Path, *lines: Any) -> SpawnOptions:
    """A sidecar that says these lines, whatever it is asked. "ID" and "STREAM" are those of the request."""
    script = tmp_path / "peer.py"
    script.write_text(_PEER)
    wrapper = tmp_path / "peer"
    arguments = [sys.executable, str(script), json.dumps(lines), json.dumps(_HELLO)]
    wrapper.write_text(f"#!{sys.executable}\nimport os\nos.execv({sys.executable!r}, {arguments!r})\n")
    wrapper.chmod(0o755)
    return {"command": wrapper}


def fake(on_engine_state: OnEngineState) -> SpawnOptions:
    """The fake engine, for one who wants to hear how it is."""
    return {**FAKE, "on_engine_state": on_engine_state}


async def collect(stream: Stream, deltas: list[StreamDelta]) -> None:
    """All that come, also where the stream ends in an error."""
    async for delta in stream:
        deltas.append(delta)  # noqa: PERF401


async def no_stream_runs(sidecar: Sidecar) -> None:
    """Wait until the sidecar says that it has nothing to do."""
    with anyio.fail_after(PATIENCE_S):
        while (await sidecar.stats()).gauges["streams"]:
            await anyio.lowlevel.checkpoint()


async def send(sidecar: Sidecar, *signals: signal.Signals) -> None:
    """Signals to the process there is."""
    process_id = await sidecar.process_id()
    for one in signals:
        os.kill(process_id, one)
