"""The disk tier behind a real engine: what survives a restart, and that nothing that happens to it changes a token."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.prefixes.damage import damaged
from benchmarks.prefixes.kills import killed
from mlx_sidecar.link.cache_messages import (
    CacheCleared,
    CacheFigures,
    CacheMoved,
    ClearCache,
    ExportCache,
    ImportCache,
    QueryCache,
)
from mlx_sidecar.link.messages import Cancel, ToEngine, ToFront
from tests.support.engine_process import EngineClient, engine_process, ready_engine

M = TypeVar("M", bound=ToFront)
KINDS = ["qwen3", "sliding", "mamba", "lfm2", "qwen3_5"]
PROMPT = [random.Random(1).randrange(300) for _ in range(400)]


@contextmanager
def engine_on(directory: Path, models: Path, *kinds: str, **more: Any) -> Iterator[EngineClient]:
    """An engine under exact numerics, with its cache in ``directory``, and models."""
    with ready_engine(numerics="exact", cache_dir=str(directory), **more) as client:
        for kind in kinds:
            client.load(kind, str(models / kind))
        yield client


def figures(engine: EngineClient) -> CacheFigures:
    op = engine.number()
    engine.send(QueryCache(op))
    return engine.wait(CacheFigures, lambda message: message.op == op)


def until(engine: EngineClient, condition: Callable[[CacheFigures], bool]) -> CacheFigures:
    """The first figures for which that holds: the cache writes behind."""
    while not condition(found := figures(engine)):
        pass
    return found


def written(engine: EngineClient) -> CacheFigures:
    return until(engine, lambda found: found.disk_pending_bytes == 0 and found.disk_blocks == found.ram_blocks > 0)


def asked(engine: EngineClient, make: Callable[[int], ToEngine], kind: type[M]) -> M:
    """Send the request that ``make`` makes of a number; return the answer."""
    op = engine.number()
    engine.send(make(op))
    answer = engine.reply(op)
    assert isinstance(answer, kind), answer
    return answer


def _has_blocks(count: int, found: CacheFigures) -> bool:
    return found.ram_blocks == count


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_restart_a_prompt_comes_from_disk_with_the_same_answer(
    tmp_path: Path, random_models: Path, kind: str
) -> None:
    with engine_on(tmp_path, random_models, kind) as engine:
        expected = engine.generate(kind, PROMPT, 12)
        written(engine)
    with engine_on(tmp_path, random_models, kind) as engine:
        again = engine.submit(kind, PROMPT, 12)
        end = engine.finished(again)
        assert end.cached_disk == end.cached_tokens >= 384
        assert engine.tokens(again) == expected
        third = engine.finished(engine.submit(kind, PROMPT, 1))
        assert (third.cached_tokens, third.cached_disk) == (end.cached_tokens, 0)


def test_the_next_turn_after_a_restart_computes_only_what_is_new(tmp_path: Path, random_models: Path) -> None:
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        answer = engine.generate("qwen3", PROMPT, 30)
        written(engine)
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        end = engine.finished(engine.submit("qwen3", [*PROMPT, *answer, 1, 2, 3], 1))
        assert end.cached_tokens == end.cached_disk == len(PROMPT) + len(answer) - 1


def test_weights_that_have_changed_find_nothing_old(tmp_path: Path, random_models: Path) -> None:
    from tests.support.random_models import write_model

    cache, model = tmp_path / "cache", tmp_path / "model"
    for seed in (1, 2):
        write_model(model, "qwen3", seed=seed)
        with ready_engine(cache_dir=str(cache)) as engine:
            engine.load("m", str(model))
            assert engine.finished(engine.submit("m", PROMPT, 4)).cached_tokens == 0
            written(engine)


def test_two_engines_share_a_directory(tmp_path: Path, random_models: Path) -> None:
    with engine_on(tmp_path, random_models, "qwen3") as one, engine_on(tmp_path, random_models, "qwen3") as other:
        expected = one.generate("qwen3", PROMPT, 8)
        written(one)
        other.generate("qwen3", PROMPT[20:40], 1)  # looks for what others have written
        until(other, lambda found: found.disk_blocks > 1)
        again = other.submit("qwen3", PROMPT, 8)
        assert other.finished(again).cached_disk >= 384
        assert other.tokens(again) == expected


def test_a_conversation_goes_to_a_file_and_back(tmp_path: Path, random_models: Path) -> None:
    file = str(tmp_path / "conversation.safetensors")
    for kind in KINDS:
        with engine_on(tmp_path / "one", random_models, kind) as engine:
            answer = engine.generate(kind, PROMPT, 8)
            whole = [*PROMPT, *answer[:-1]]
            moved = asked(engine, partial(ExportCache, model=kind, tokens=whole, path=file), CacheMoved)
            assert moved.tokens == len(whole)
        with ready_engine(numerics="exact") as engine:
            engine.load(kind, str(random_models / kind))
            taken = asked(engine, partial(ImportCache, model=kind, path=file), CacheMoved)
            assert (taken.tokens, taken.nbytes) == (moved.tokens, moved.nbytes)
            assert engine.finished(engine.submit(kind, [*PROMPT, *answer, 5], 1)).cached_tokens == len(whole)


def test_a_file_of_other_weights_is_refused_by_name(tmp_path: Path, random_models: Path) -> None:
    file = str(tmp_path / "conversation.safetensors")
    with ready_engine() as engine:
        for kind in ("qwen3", "llama"):
            engine.load(kind, str(random_models / kind))
        engine.generate("qwen3", PROMPT, 1)
        asked(engine, lambda op: ExportCache(op, "qwen3", PROMPT, file), CacheMoved)
        for path in (file, str(tmp_path / "nothing"), str(tmp_path)):
            op = engine.number()
            engine.send(ImportCache(op, "llama", path))
            fault = engine.refusal(op).fault
            assert (fault.kind, fault.details["field"]) == ("invalid_params", "path")
        assert engine.finished(engine.submit("llama", PROMPT, 1)).cached_tokens == 0


def test_what_is_cleared_is_gone_from_memory_and_disk(tmp_path: Path, random_models: Path) -> None:
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        engine.generate("qwen3", PROMPT, 8)
        before = written(engine)
        cleared = asked(engine, lambda op: ClearCache(op, "qwen3"), CacheCleared)
        assert (cleared.ram_bytes, cleared.disk_bytes) == (before.ram_bytes, before.disk_bytes)
        after = figures(engine)
        assert (after.ram_bytes, after.disk_bytes, after.nodes) == (0, 0, 0)
        assert not list(tmp_path.rglob("*.safetensors"))
        assert engine.finished(engine.submit("qwen3", PROMPT, 1)).cached_tokens == 0


def test_a_request_that_is_cancelled_while_the_disk_is_read_leaves_the_others_alone(
    tmp_path: Path, random_models: Path
) -> None:
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        expected = engine.generate("qwen3", PROMPT, 8)
        written(engine)
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        gone, stays = (engine.submit("qwen3", PROMPT, 8) for _ in range(2))
        engine.send(Cancel(gone))
        assert engine.finished(gone).reason in ("cancelled", "length")
        assert engine.tokens(stays) == expected


def test_an_engine_that_cannot_write_goes_on_and_says_so(tmp_path: Path, random_models: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with engine_on(blocked / "cache", random_models, "qwen3") as engine:
        assert len(engine.generate("qwen3", PROMPT, 8)) == 8
        found = until(engine, lambda found: found.disk_state == "failed")
        assert found.disk_because
        assert engine.finished(engine.submit("qwen3", PROMPT, 1)).cached_tokens >= 384


def test_a_full_disk_switches_the_tier_off_and_generation_goes_on(tmp_path: Path, random_models: Path) -> None:
    program = (
        "-c",
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "sys.argv[0] = 'engine'; runpy.run_module('mlx_sidecar.engine', run_name='__main__')",
    )
    with engine_process(cache_dir=str(tmp_path), program=program) as engine:
        engine.load("qwen3", str(random_models / "qwen3"))
        assert len(engine.generate("qwen3", PROMPT, 8)) == 8
        until(engine, lambda found: found.disk_state == "failed")
        assert not list(tmp_path.rglob("*.tmp"))
        assert len(engine.generate("qwen3", PROMPT[:100], 8)) == 8


def test_a_disk_that_hangs_keeps_nobody_waiting(tmp_path: Path, random_models: Path) -> None:
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        expected = engine.generate("qwen3", PROMPT, 8)
        written(engine)
    program = (
        "-c",
        "import os, runpy, sys, threading; "
        "import mlx_sidecar.engine.prefix.stored_prefixes as waits; waits.DISK_PATIENCE_S = 0.2; "
        "os.preadv = lambda *_: threading.Event().wait(); "  # what reads the contents of a file, and nothing else here
        "sys.argv[0] = 'engine'; runpy.run_module('mlx_sidecar.engine', run_name='__main__')",
    )
    with engine_process(numerics="exact", cache_dir=str(tmp_path), program=program) as engine:
        engine.load("qwen3", str(random_models / "qwen3"))
        until(engine, lambda found: found.disk_blocks > 1)
        for _ in range(2):
            waits = engine.submit("qwen3", PROMPT, 8)
            assert engine.finished(waits).cached_disk == 0
            assert engine.tokens(waits) == expected


def test_the_bound_on_disk_is_kept_and_what_was_used_last_stays(tmp_path: Path, random_models: Path) -> None:
    limit = 600_000
    prompts = [[random.Random(seed).randrange(300), *PROMPT[: 300 + seed]] for seed in range(8)]
    with engine_on(tmp_path, random_models, "qwen3", cache_disk_limit_bytes=limit) as engine:
        blocks = 0
        for prompt in prompts:
            engine.generate("qwen3", prompt, 1)
            blocks += -(-len(prompt) // 64)
            until(engine, partial(_has_blocks, blocks))
        until(engine, lambda found: found.counters["disk_evicted"] > 0 and found.disk_pending_bytes == 0)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= limit
    with engine_on(tmp_path, random_models, "qwen3") as engine:
        assert engine.finished(engine.submit("qwen3", prompts[-1], 1)).cached_disk > 256


def test_the_directory_is_its_owners_only(tmp_path: Path, random_models: Path) -> None:
    directory = tmp_path / "cache"
    with engine_on(directory, random_models, "qwen3") as engine:
        engine.generate("qwen3", PROMPT, 1)
        written(engine)
    modes = {path.stat().st_mode & 0o077 for path in [directory, *directory.rglob("*")]}
    assert modes == {0}


@pytest.mark.parametrize("kind", ["qwen3", "sliding", "lfm2"])
def test_no_damage_to_its_files_changes_a_token(tmp_path: Path, random_models: Path, kind: str) -> None:
    outcome = damaged(random_models / kind, tmp_path / "cache", rounds=60, seed=3)
    assert outcome.wrong == 0
    assert outcome.disk_tokens > 0
    assert outcome.noticed["disk_damaged"] > 0


def test_an_engine_that_was_killed_while_it_wrote_leaves_nothing_wrong() -> None:
    outcome = killed(rounds=2, seed=5)
    assert outcome.wrong == 0
