"""Text processes die, hang and come back; each request is answered all the same, and a model gets two tries."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar import pocket
from mlx_sidecar.config import Config
from mlx_sidecar.front.api.forms import Forms
from mlx_sidecar.front.api.model_text import Chat, FolderText
from mlx_sidecar.front.supervision import text_pool as text_pool_module
from mlx_sidecar.front.supervision.text_assignment import EACH_MODEL
from mlx_sidecar.front.supervision.text_pool import PROCESSES, STARTS, TextPool
from mlx_sidecar.front.supervision.text_verdicts import DEATHS, KILLS
from mlx_sidecar.link.forms import RegexForm
from mlx_sidecar.link.text_messages import ModelFolder
from mlx_sidecar_protocol.errors import EngineLost, InvalidParams, ModelLoadFailed, ModelUnsupported, ShuttingDown
from tests.support import mortal_text
from tests.support.pockets import pocket_with

POCKET = ModelFolder("pocket", str(pocket.PATH), "1")
PATIENCE_S = 120.0


@asynccontextmanager
async def pooled(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TextPool]:
    """A pool whose processes do what the texts say that they are asked about."""
    monkeypatch.setattr(text_pool_module, "spawn", mortal_text.spawn)
    pool = TextPool(Config())
    try:
        yield pool
    finally:
        pool.stop()


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_S))


async def until_there(file: Path) -> None:
    while not file.exists():
        await asyncio.sleep(0.01)


def test_a_model_is_read_encoded_decoded_and_rendered_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            tokens = await text.encode("Hello there")
            assert await text.decode(tokens) == "Hello there"
            detokenizer = text.detokenizer()
            assert detokenizer.push_many(tokens) + detokenizer.finish() == "Hello there"
            rendered = await text.render(Chat([{"role": "user", "content": "Hi"}]))
            assert "Hi" in rendered.text
            assert (
                await text.chat_tokens(Chat([{"role": "user", "content": "Hi"}]))
            ).tokens == rendered.tokens.tolist()
            assert len(pool.pids) == 1

    on_loop(test)


def test_a_request_whose_process_died_is_answered_by_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            before = pool.pids
            assert (
                await text.decode(await text.encode(f"die-once {tmp_path / 'died'}")) == f"die-once {tmp_path / 'died'}"
            )
            assert pool.pids != before

    on_loop(test)


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGKILL", "SIGXCPU"])
def test_a_model_that_ends_two_processes_is_refused_by_name_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            innocent = await FolderText.read(pool, POCKET)
            guilty = await FolderText.read(pool, ModelFolder("guilty", str(pocket.PATH), "2"))
            answers = [
                innocent.encode("Hello"),
                guilty.encode(f"die {name}"),
                guilty.encode("Hello"),
                innocent.encode("x"),
            ]
            one, refused, _, other = await asyncio.gather(*answers, return_exceptions=True)
            assert isinstance(refused, ModelUnsupported)
            assert refused.details["model"] == "guilty"
            # One killed from outside may be the kernel's choice, because of the memory of others.
            ended = KILLS if name == "SIGKILL" else DEATHS
            assert f"{ended} processes" in refused.details["because"]
            assert (one, other) == (await innocent.encode("Hello"), await innocent.encode("x"))
            pids = pool.pids
            with pytest.raises(ModelUnsupported):
                await guilty.encode("Hello")
            assert pool.pids == pids

    on_loop(test)


@pytest.mark.parametrize("name", ["SIGABRT", "SIGXCPU"])
def test_a_form_that_ends_two_processes_is_refused_and_no_model_is_to_blame(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text, forms = await FolderText.read(pool, POCKET), Forms(pool)
            answers = [forms._grammar(RegexForm(f"die {name}")), text.encode("Hello")]
            refused, tokens = await asyncio.gather(*answers, return_exceptions=True)
            assert isinstance(refused, InvalidParams)
            assert refused.details["errors"][0]["loc"] == ["response_format"]
            assert f"ended {DEATHS} processes" in refused.message
            assert tokens == await text.encode("Hello")
            assert await forms._grammar(RegexForm("live"))
            pids = pool.pids
            with pytest.raises(InvalidParams):
                await forms._grammar(RegexForm(f"die {name}"))
            assert pool.pids == pids

    on_loop(test)


def test_a_process_that_is_killed_while_it_has_nothing_to_do_costs_nobody_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            for _ in range(3):
                os.kill(pool.pids[0], signal.SIGKILL)
                assert await text.encode("Hello")

    on_loop(test)


def test_a_model_whose_request_hangs_keeps_no_other_model_waiting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            innocent = await FolderText.read(pool, POCKET)
            guilty = await FolderText.read(pool, ModelFolder("guilty", f"{pocket.PATH}/.", "2"))
            hanging = [asyncio.ensure_future(guilty.encode(f"hang {tmp_path / str(n)}")) for n in range(PROCESSES)]
            await until_there(tmp_path / "0")
            assert await innocent.encode("Hello")
            assert len(pool.pids) <= EACH_MODEL + 1
            pool.stop()
            for answer in await asyncio.gather(*hanging, return_exceptions=True):
                assert isinstance(answer, ShuttingDown)

    on_loop(test)


def another(name: str, number: int) -> ModelFolder:
    """Pocket, in a directory that is written otherwise each time."""
    return ModelFolder(name, f"{pocket.PATH}{'/.' * number}", "1")


def test_a_model_that_answers_gets_through_beside_others_that_all_hang(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            guilty = [await FolderText.read(pool, another(f"guilty-{n}", n)) for n in range(1, 2 * PROCESSES)]
            innocent = await FolderText.read(pool, POCKET)
            hanging = [asyncio.ensure_future(each.encode(f"hang {tmp_path / str(n)}")) for n, each in enumerate(guilty)]
            for n in range(PROCESSES):
                await until_there(tmp_path / str(n))
            for n in range(10):
                assert await innocent.encode(f"Hello {n}")
            assert not any(each.done() for each in hanging)
            assert len(pool.pids) <= PROCESSES

    on_loop(test)


def test_a_request_that_made_room_for_another_model_is_answered_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        monkeypatch.setattr(text_pool_module, "PROCESSES", 1)
        monkeypatch.setattr(text_pool_module, "BUSY_S", 0.01)
        async with pooled(monkeypatch) as pool:
            slow = await FolderText.read(pool, another("slow", 1))
            long = asyncio.ensure_future(slow.encode(f"hang-once {tmp_path / 'begun'}"))
            await until_there(tmp_path / "begun")
            assert (await FolderText.read(pool, POCKET)).vocabulary
            assert await long

    on_loop(test)


def test_a_request_that_nobody_waits_for_makes_room_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def test() -> None:
        monkeypatch.setattr(text_pool_module, "PROCESSES", 1)
        monkeypatch.setattr(text_pool_module, "BUSY_S", PATIENCE_S)
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            cancelled = asyncio.ensure_future(text.encode(f"hang {tmp_path / 'begun'}"))
            await until_there(tmp_path / "begun")
            cancelled.cancel()
            assert (await FolderText.read(pool, another("other", 1))).vocabulary

    on_loop(test)


def test_what_a_cancelled_request_ended_counts_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            guilty = await FolderText.read(pool, POCKET)
            cancelled = asyncio.ensure_future(guilty.encode(f"hang {tmp_path / 'begun'}"))
            await until_there(tmp_path / "begun")
            cancelled.cancel()
            [pid] = pool.pids
            os.kill(pid, signal.SIGABRT)
            while pid in pool.pids:
                await asyncio.sleep(0.01)
            with pytest.raises(ModelUnsupported, match="2 processes"):
                await guilty.encode(f"die-once {tmp_path / 'died'}")

    on_loop(test)


def test_templates_whose_compiling_ends_a_process_are_not_held_against_other_requests(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            guilty = await FolderText.read(pool, ModelFolder("guilty", str(pocket.PATH), "die"))
            before = pool.pids
            await guilty.compile_templates()
            await guilty.compile_templates()  # nothing is asked again
            first_death = tmp_path / "died"
            assert await guilty.encode(f"die-once {first_death}")
            assert not set(before) & set(pool.pids)
            assert (await guilty.render(Chat([{"role": "user", "content": "Hi"}]))).text

    on_loop(test)


def test_a_prompt_does_not_wait_for_templates_that_take_long_to_compile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, ModelFolder("slow", str(pocket.PATH), f"wait {tmp_path / 'go-on'}"))
            compiling = text.compile_templates()
            assert await text.encode("Hello")
            assert not compiling.done()
            (tmp_path / "go-on").touch()
            await compiling

    on_loop(test)


def test_help_that_cannot_be_started_fails_no_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refused = 0

    def spawn(_: Config) -> tuple[subprocess.Popen[bytes], socket.socket]:
        nonlocal refused
        refused += 1
        raise OSError("no more processes")

    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            monkeypatch.setattr(text_pool_module, "spawn", spawn)
            first = asyncio.ensure_future(text.encode(f"wait-for {tmp_path / 'begun'} {tmp_path / 'go'}"))
            await until_there(tmp_path / "begun")
            second = asyncio.ensure_future(text.encode("Hello"))
            while refused <= STARTS:
                await asyncio.sleep(0.01)
            (tmp_path / "go").touch()
            assert await first
            assert await second

    on_loop(test)


def test_a_process_that_says_what_it_was_not_asked_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            with pytest.raises(ModelUnsupported, match="said what it was not asked"):
                await text.encode("babble")
            assert (await FolderText.read(pool, another("other", 1))).vocabulary

    on_loop(test)


def test_a_model_is_refused_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            with pytest.raises(ModelUnsupported):
                await (await FolderText.read(pool, POCKET)).encode("die SIGKILL")
            with pytest.raises(ModelUnsupported, match="alias"):
                await FolderText.read(pool, ModelFolder("alias", POCKET.path, POCKET.edition))

    on_loop(test)


def test_small_requests_without_end_do_not_keep_a_long_one_or_another_model_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)

            async def ask_on() -> None:
                while True:
                    await text.encode("hello")

            asking = [asyncio.ensure_future(ask_on()) for _ in range(100)]
            await text.encode("hello")
            await text.encode("hello " * 1000)
            await FolderText.read(pool, ModelFolder("another", str(pocket.PATH), "another"))
            assert not any(each.done() for each in asking)
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    on_loop(test)


def test_a_request_that_is_cancelled_while_it_waits_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, POCKET)
            waiting = asyncio.ensure_future(text.encode("die SIGKILL"))
            await asyncio.sleep(0)
            hanging = asyncio.ensure_future(text.encode("Hello"))
            waiting.cancel()
            assert await hanging

    on_loop(test)


def test_where_no_process_can_be_started_requests_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = 0

    def spawn(_: Config) -> tuple[subprocess.Popen[bytes], socket.socket]:
        nonlocal starts
        starts += 1
        ours, theirs = socket.socketpair()
        theirs.close()
        return subprocess.Popen(["false"]), ours

    async def test() -> None:
        monkeypatch.setattr(text_pool_module, "spawn", spawn)
        with pytest.raises(EngineLost, match="no process for texts can be started"):
            await FolderText.read(TextPool(Config()), POCKET)
        assert starts == STARTS

    on_loop(test)


def test_a_system_without_processes_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(_: Config) -> tuple[subprocess.Popen[bytes], socket.socket]:
        raise OSError("no more processes")

    async def test() -> None:
        monkeypatch.setattr(text_pool_module, "spawn", spawn)
        with pytest.raises(EngineLost, match="no more processes"):
            await FolderText.read(TextPool(Config()), POCKET)

    on_loop(test)


FAILS: dict[str, dict[str, Any]] = {
    "an empty chunk": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a replacement of nothing": {"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}},
    "an unknown special token": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "none", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    },
    "a model without tokens": {"model": {"type": "Unigram", "vocab": [], "unk_id": None}},
    "an unknown token that is none": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "none"}},
}


@pytest.mark.parametrize("what", FAILS)
def test_a_tokenizer_that_makes_its_library_fail_is_an_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    folder = ModelFolder("guilty", str(pocket_with(tmp_path / "m", **FAILS[what])), "1")

    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            with pytest.raises((ModelUnsupported, ModelLoadFailed)) as refused:
                await (await FolderText.read(pool, folder)).encode("hi")
            assert refused.value.details["model"] == "guilty"
            assert await (await FolderText.read(pool, POCKET)).encode("hi")

    on_loop(test)


def test_an_answer_that_is_too_large_for_the_front_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    grows = {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 1_000}
    folder = ModelFolder("guilty", str(pocket_with(tmp_path / "m", decoder=grows)), "1")

    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, folder)
            with pytest.raises(ModelUnsupported, match="the limit is 80000000"):
                await text.decode([300] * 40_000)
            assert await text.decode([300])
            assert len(pool.pids) == 1

    on_loop(test)


def test_what_a_template_refuses_keeps_the_type_of_its_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = pocket_with(tmp_path / "m", {"chat_template.jinja": "{{ raise_exception('not so') }}"})

    async def test() -> None:
        async with pooled(monkeypatch) as pool:
            text = await FolderText.read(pool, ModelFolder("m", str(folder), "1"))
            with pytest.raises(InvalidParams) as refused:
                await text.render(Chat([{"role": "user", "content": "Hi"}]))
            assert refused.value.details["errors"] == [{"loc": ["messages"], "msg": "not so", "type": "template_error"}]

    on_loop(test)
