"""The conformance kit: our clients pass it, flawed ones do not, and its golden sessions are what the sidecar does."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_sidecar_conformance.normal import normal
from tests.support.frames import FrameChecker
from tests.support.listening_pair import ListeningPair
from tests.support.programs import program
from tests.support.sidecar import ROOT

KIT = ROOT / "clients" / "conformance"
SIDECAR = ["--sidecar", f"{sys.executable} -m mlx_sidecar"]
CASES = [json.loads(line) for line in (KIT / "cases.jsonl").read_bytes().splitlines()]
GOLDEN = sorted((KIT / "golden").glob("*.jsonl"))
PATIENCE_S = 600.0  # far beyond what anything takes: the kit has a bound of its own for each case

RESPAWN = {case["id"] for case in CASES if case["level"] == "respawn"}
# Cases about processes, and about the pace of a sidecar that has an interpreter of its own. All others are answered by
# pairs, which start in a tenth of the time.
ON_PROCESSES = {case["id"] for case in CASES if case["level"] in ("respawn", "backpressure")} | {
    "closed-in-mid-stream",
    "engine-crash",
    "poison",
    "goodbye",
    "nothing-to-do",
}
ON_PAIRS = {case["id"] for case in CASES} - ON_PROCESSES
SHELL = (["sh", str(ROOT / "clients" / "shell" / "conformance.sh")], ["sh", "jq"])
# The adapter's command, and the programs it needs.
ADAPTERS = {
    "typescript": (["node", "clients/typescript/conformance.mjs"], ["node"]),
    "neovim": (["sh", "clients/neovim/conformance.sh"], ["nvim"]),
    "python": ([sys.executable, "clients/python/conformance.py"], []),
}

# The fault of a client, the case that shows it, and what the kit says.
FLAWS = [
    ("loses a delta", "streamed", "the text of the deltas"),
    ("delivers a delta twice", "streamed", "the text of the deltas"),
    ("streams nothing", "streamed", "got "),
    ("drops some reasoning", "channels", "the reasoning of the deltas"),
    ("drops fragments of calls", "channels", "the calls of the deltas"),
    ("answers twice", "calls", "3 operations got 6 answers"),
    ("uses an id twice", "calls", "the client used the id 1 twice"),
    ("exits with another status", "calls", "exit status is 3"),
    ("ignores errors", "refused", "got "),
    ("drops the data of errors", "refused", "got "),
    ("chokes on unknown notifications", "noise", "what is this?"),
    ("cuts characters", "one-byte-at-a-time", "got "),
    ("never cancels", "cancel", "on the wire, no such frame from the host"),
    ("never acknowledges", "window", "a hang"),
    ("acknowledges unread deltas", "stalled-reader", "was acknowledged when 3"),
    ("ends without a goodbye", "goodbye", "on the wire, no such frame from the host"),
    ("leaves the sidecar behind", "goodbye", "left behind"),
    ("hangs", "calls", "a hang"),
]


def need(programs: list[str]) -> None:
    for name in programs:
        program(name)


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, as an author of a client would."""
    sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": sources},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
    )


def verdict(adapter: list[str], *options: str, pairs: ListeningPair | None = None) -> subprocess.CompletedProcess[str]:
    sidecar = SIDECAR if pairs is None else ["--sidecar", shlex.join(pairs.command)]
    return kit(str(KIT / "run.py"), *sidecar, *options, "--", *adapter)


def passes(adapter: list[str], cases: set[str], pairs: ListeningPair) -> None:
    for chosen, listening in ((cases & ON_PROCESSES, None), (cases & ON_PAIRS, pairs)):
        done = verdict(adapter, *only(chosen), pairs=listening)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(chosen)} passed, 0 left out, 0 failed" in done.stdout


# Clients that pass.


def test_the_shell_client_passes_every_case_without_respawn(pairs: ListeningPair) -> None:
    adapter, programs = SHELL
    need(programs)
    passes(adapter, {case["id"] for case in CASES} - RESPAWN, pairs)


@pytest.mark.parametrize("client", ADAPTERS)
def test_the_client_passes_every_case(client: str, pairs: ListeningPair) -> None:
    adapter, programs = ADAPTERS[client]
    need(programs)
    passes(adapter, {case["id"] for case in CASES}, pairs)


# Clients that do not.


def test_the_client_of_a_page_passes_where_it_has_no_flaw(pairs: ListeningPair) -> None:
    adapter = [sys.executable, str(Path(__file__).parent / "flawed_adapter.py"), "none"]
    passes(adapter, {case for _, case, _ in FLAWS}, pairs)


@pytest.mark.parametrize(("flaw", "case", "said"), FLAWS, ids=[flaw for flaw, *_ in FLAWS])
def test_the_kit_finds_a_client_that(flaw: str, case: str, said: str, pairs: ListeningPair) -> None:
    adapter = [sys.executable, str(Path(__file__).parent / "flawed_adapter.py"), flaw]
    patience = "5" if said == "a hang" else "60"
    listening = None if case in ON_PROCESSES else pairs
    done = verdict(adapter, "--patience", patience, "--only", case, pairs=listening)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"failed    {level(case):12} {case}" in done.stdout
    assert said in done.stdout


def test_a_client_that_is_not_there_is_a_failure_and_no_pass() -> None:
    done = verdict(["no-such-adapter"], "--only", "calls")
    assert done.returncode == 2
    assert "no such program: no-such-adapter" in done.stderr


def test_an_operation_that_a_client_has_nothing_for_fails_musts_and_leaves_out_others(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text('import sys\nfor line in sys.stdin: print(\'{"unsupported": "no streams"}\')\n')
    done = verdict([sys.executable, str(adapter)], "--only", "streamed", "--only", "together")
    assert "failed    must         streamed" in done.stdout
    assert "left out  should       together: no streams" in done.stdout
    assert done.returncode == 1


def only(cases: set[str]) -> list[str]:
    return [word for case in sorted(cases) for word in ("--only", case)]


def level(case: str) -> str:
    return next(str(one["level"]) for one in CASES if one["id"] == case)


# The cases and the golden sessions.


def test_each_case_has_a_name_of_its_own_a_reason_and_an_expectation_for_each_operation() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert all(case["why"] and len(case["operations"]) == len(case["expect"]) for case in CASES)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_a_golden_session_is_what_the_sidecar_does(file: Path) -> None:
    done = kit(str(KIT / "record.py"), *SIDECAR, "--check", file.stem)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_each_frame_of_a_golden_session_is_valid(file: Path) -> None:
    checker = FrameChecker()
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()[1:-1]):
        if line["from"] == "host":
            checker.sent_by_host(line["frame"])
        else:
            checker.sent_by_sidecar(line["frame"])


def test_a_session_is_the_same_text_whether_the_engine_was_there_at_the_hello_or_not() -> None:
    _, *lines, _ = map(json.loads, (KIT / "golden" / "window.jsonl").read_text(encoding="utf-8").splitlines())
    early = json.loads(json.dumps(lines))
    [hello] = [line["frame"]["result"] for line in early if "capabilities" in line["frame"].get("result", {})]
    del hello["backend"]
    assert json.dumps(list(normal(early))) == json.dumps(list(normal(lines)))


def test_each_session_is_recorded() -> None:
    done = kit(str(KIT / "record.py"), "--list")
    assert done.stdout.split() == [file.stem for file in GOLDEN]


def test_the_listing_for_authors_has_every_method_notification_and_error() -> None:
    done = kit(str(KIT / "listing.py"), "--check")
    assert done.returncode == 0, "python clients/conformance/listing.py writes it anew\n" + done.stderr
    page = (KIT.parent / "README.md").read_text(encoding="utf-8")
    registry = json.loads((ROOT / "schemas" / "methods.json").read_text(encoding="utf-8"))
    for name in [*(one["name"] for one in registry["methods"]), *(one["kind"] for one in registry["errors"])]:
        assert f"\n| `{name}`" in page, name
