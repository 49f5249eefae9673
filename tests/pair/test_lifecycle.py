"""How a conversation begins and ends, whatever becomes of the processes: tests/e2e/test_lifecycle.py."""

from __future__ import annotations

from mlx_sidecar_protocol.generate import GenerateParams
from tests.support.pair import pair

SLOW = {"model": "fake?tokens=1000&delay_ms=20", "prompt": "x", "stream": "s"}


def test_initialize_tells_what_the_server_can_do() -> None:
    with pair() as process:
        result = process.initialize(protocol_version=7)
        assert result["protocol_version"] == 1
        assert result["server"]["name"] == "mlx-sidecar"
        assert result["limits"] == {
            "frame_bytes": 64 * 2**20,
            "batch": 1000,
            "nesting": 128,
            "header_bytes": 8192,
            "values": 1_100_000,
            "members": 2**16,
            "containers": 2**15,
            "requests_bytes": 32 * 2**20,
            "answers_bytes": 16 * 2**20,
            "waiting_requests": 1024,
            "journal_bytes": 256 * 2**20,
            "sessions": 4096,
            "sessions_bytes": 256 * 2**20,
        }
        assert "generate" in result["capabilities"]["methods"]
        assert result["capabilities"]["generate_parameters"] == list(GenerateParams.model_fields)
        assert process.error("initialize", {"protocol_version": 1, "client": {"name": "x"}})["code"] == -32600


def test_shutdown_with_cancel_ends_what_runs() -> None:
    with pair() as process:
        running = process.request("generate", SLOW)
        process.notification("stream/delta", stream="s")
        assert process.call("shutdown", {"cancel": True}) == {}
        assert process.result(running)["finish_reason"] == "cancelled"
        process.notify("exit")
        assert process.exit_status() == 0


def test_a_host_that_never_said_initialize_gets_answers_and_nothing_else() -> None:
    with pair() as process:
        process.call("generate", {"model": "fake", "prompt": "x"})
        process.call("stats")
        assert all("id" in frame for frame in process.frames)
