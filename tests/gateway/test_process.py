"""The command ``mlx-sidecar gateway``: where it listens, whom it answers, and how it ends."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar_gateway.core.keys import Key
from mlx_sidecar_gateway.server import CannotStart, serve
from mlx_sidecar_gateway.settings import Settings
from mlx_sidecar_gateway.surfaces.surface import Offer
from tests.gateway.gateway_process import COMMAND, PATIENCE_S, GatewayProcess, gateway_process

SLOW = "fake?text=from+begin+to+end&delay_ms=60"


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND[:-2], *options], capture_output=True, text=True, timeout=PATIENCE_S)


@contextmanager
def streaming(gateway: GatewayProcess, model: str) -> Iterator[http.client.HTTPResponse]:
    """A stream of which the head has come."""
    with closing(http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=PATIENCE_S)) as connection:
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as response:
            yield response


def wait(gateway: GatewayProcess) -> int:
    return gateway.process.wait(PATIENCE_S)


def test_a_signal_lets_streams_end_and_the_status_is_0() -> None:
    with gateway_process("--engine", "fake") as gateway:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        with streaming(gateway, SLOW) as stream:
            gateway.process.send_signal(signal.SIGTERM)
            assert stream.read().decode().endswith("data: [DONE]\n\n")
        assert wait(gateway) == 0
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_it_is_unready_at_once_answers_until_the_delay_is_over_and_a_further_signal_ends_each_wait() -> None:
    with gateway_process("--engine", "fake", "--drain-delay-s", "600", "--drain-timeout-s", "600") as gateway:
        with streaming(gateway, "fake?tokens=1000000&delay_ms=20") as stream:
            while gateway.get("/health/ready")[0] != 200:  # the engine may still be starting
                pass
            gateway.process.send_signal(signal.SIGTERM)
            while gateway.get("/health/ready")[0] == 200:
                pass
            assert gateway.get("/health/live")[0] == 200
            with streaming(gateway, SLOW) as other:
                assert other.read().decode().endswith("data: [DONE]\n\n")
            gateway.process.send_signal(signal.SIGTERM)
            until_deaf(gateway)
            while b"content" not in stream.readline():  # a ping may come between
                pass
            gateway.process.send_signal(signal.SIGTERM)
            assert last_error(stream) == "shutting_down"
        assert wait(gateway) == 0


def test_answers_that_do_not_end_get_an_error_after_the_timeout() -> None:
    with gateway_process("--engine", "fake", "--drain-timeout-s", "0.2") as gateway:
        with streaming(gateway, "fake?tokens=1000000&delay_ms=20") as stream:
            gateway.process.send_signal(signal.SIGTERM)
            assert last_error(stream) == "shutting_down"
        assert wait(gateway) == 0


def until_deaf(gateway: GatewayProcess) -> None:
    """Return when no connection is taken any more."""
    with suppress(OSError, http.client.HTTPException):
        while True:
            gateway.get("/health/live")


def last_error(stream: http.client.HTTPResponse) -> str:
    """The code of the error that a stream ends with."""
    *_, last = stream.read().decode().strip().split("\n\n")
    return str(json.loads(last.removeprefix("data: "))["error"]["code"])


def test_an_address_that_others_reach_needs_keys(tmp_path: Path) -> None:
    done = run("--listen", "0.0.0.0:0", "--engine", "fake")
    assert done.returncode == 1
    assert "--keys" in done.stderr
    keys = tmp_path / "keys"
    keys.write_text("me secret-key\n")
    with gateway_process("--listen", "0.0.0.0:0", "--engine", "fake", "--keys", str(keys)) as gateway:
        assert gateway.get("/v1/models")[0] == 401
        assert gateway.get("/v1/models", **{"x-api-key": "secret-key"})[0] == 200
        assert gateway.get("/health/startup")[0] == 200


def test_a_socket_in_the_file_system_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with gateway_process("--listen", f"unix:{path}", "--engine", "fake", is_ready=False):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--listen", "nowhere"), "neither HOST:PORT nor unix:PATH"),
        (("--listen", "127.0.0.1:0", "--keys", "/nothing/here"), "--keys /nothing/here"),
        (("--listen", "127.0.0.1:0", "--engine", "fake", "--model", "fake?fail_load=model_load_failed"), "fail_load"),
    ],
)
def test_what_keeps_it_from_starting_is_told_in_a_line(options: tuple[str, ...], words: str) -> None:
    done = run(*options)
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert words in last


def test_a_key_for_a_model_that_is_not_offered_keeps_it_from_starting() -> None:
    keys = {"key": Key(name="me", models=frozenset({"mine", "other"}))}
    with pytest.raises(CannotStart, match="'me' is for a model 'other'"):
        serve(Settings(models=(Offer("mine", "fake"),), keys=keys))


def test_more_connections_than_the_system_allows_keep_it_from_starting() -> None:
    with pytest.raises(CannotStart, match="--connection-limit 100000000000: "):
        serve(Settings(connection_limit=10**11))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--connection-limit", "0"], "--connection-limit: 0 is not positive"),
        (["--header-timeout-s", "never"], "--header-timeout-s: 'never' is no number"),
        (["--keep-alive-s", "0"], "--keep-alive-s: 0 is not a positive number of seconds"),
        (["--allow-origin", "example.org"], "--allow-origin: 'example.org' is no origin"),
        (["--conection-limit", "5"], "no option '--conection-limit' here; did you mean '--connection-limit'?"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_a_line(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command_line(["gateway"]).parse(["gateway", *options])
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_without_its_extra_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['uvloop'] = None; import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'uvloop' else find(name)\n"
        "from mlx_sidecar.cli import main; main(['gateway'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "uvloop" in done.stderr
    assert "[gateway]" in done.stderr
