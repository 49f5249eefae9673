"""Loading with mlx: what is loaded, in which arithmetic, what is refused, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_sidecar.checkpoint.headers import read_header
from mlx_sidecar.link.control_messages import EngineStats, Load, Loaded, Progress, QueryStats, Unload
from tests.support.engine_process import EngineClient, ready_engine
from tests.support.random_models import write_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """An engine that has computed: the first computation of a process leaves 8 bytes, mlx's random state."""
    with ready_engine(engine="mlx", numerics="exact") as client:
        client.load("first", str(write_model(tmp_path_factory.mktemp("first"), "qwen3")))
        client.generate("first", [1, 2, 3], 1)
        unload(client, "first")
        yield client


def active_bytes(engine: EngineClient) -> float:
    op = engine.number()
    engine.send(QueryStats(op))
    answer = engine.reply(op)
    assert isinstance(answer, EngineStats)
    return answer.gauges["active_bytes"]


def unload(engine: EngineClient, model: str) -> None:
    op = engine.number()
    engine.send(Unload(op, model))
    engine.reply(op)


def refused(engine: EngineClient, path: Path, adapter: str | None = None) -> tuple[str, str]:
    """Kind and message of the refusal; and that nothing of the load is left."""
    before = active_bytes(engine)
    op = engine.number()
    engine.send(Load(op, path.name, str(path), adapter=adapter))
    fault = engine.refusal(op).fault
    assert active_bytes(engine) == before
    return fault.kind, fault.message


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float32", None), ("bfloat16", None), ("float16", None), ("float16", 4), ("bfloat16", 8)]
)
def test_native_code_computes_every_kind_of_weights_as_stored(
    engine: EngineClient, tmp_path: Path, dtype: str, bits: int | None
) -> None:
    before = active_bytes(engine)
    path = write_model(tmp_path, "qwen3", dtype=dtype, bits=bits)
    card = engine.load("m", str(path)).card
    assert (card.forward, card.not_native, card.dtype) == ("native", "", dtype)
    assert card.memory_bytes <= (path / "model.safetensors").stat().st_size
    assert card.policy.endswith("kernels, weights as stored, sums in float32")
    assert len(engine.generate("m", [1, 2, 3], 4)) == 4
    unload(engine, "m")
    assert active_bytes(engine) == before


def test_a_model_that_seemed_native_and_is_not_is_computed_in_float32(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path, "qwen3", dtype="bfloat16", bits=3)
    card = engine.load("m", str(path)).card
    assert (card.forward, card.dtype, card.memory_bytes) == ("flat", "float32", 4 * card.parameters)
    assert card.not_native == "weights are affine of 3 bits in groups of 32"
    assert len(engine.generate("m", [1, 2, 3], 4)) == 4
    unload(engine, "m")


@pytest.mark.parametrize(
    ("dtype", "bits"), [("float32", None), ("bfloat16", None), ("float16", None), ("float16", 4), ("bfloat16", 8)]
)
def test_on_a_cpu_every_kind_of_weights_computes_in_float32_by_mlx(
    engine: EngineClient, tmp_path: Path, dtype: str, bits: int | None
) -> None:
    before = active_bytes(engine)
    loaded = engine.load("m", str(write_model(tmp_path, "lfm2", dtype=dtype, bits=bits)))
    card = loaded.card
    assert card.dtype == "float32"
    assert card.quantization == (f"{bits} bits, affine, groups of 32" if bits else None)
    assert card.memory_bytes == 4 * card.parameters
    assert card.policy.endswith(" via shim, float32")
    assert len(engine.generate("m", [1, 2, 3], 4)) == 4
    unload(engine, "m")
    assert active_bytes(engine) == before


def test_a_load_may_say_what_to_compute_in(engine: EngineClient, tmp_path: Path) -> None:
    loaded = engine.load("m", str(write_model(tmp_path, "qwen3")), dtype="bfloat16")
    assert loaded.card.dtype == "bfloat16"
    assert loaded.card.memory_bytes == 2 * loaded.card.parameters
    unload(engine, "m")


def test_the_card_says_what_the_model_is(engine: EngineClient, tmp_path: Path) -> None:
    card = engine.load("m", str(write_model(tmp_path, "qwen3_5"))).card
    assert (card.architecture, card.context_length, card.vocabulary, card.state) == ("qwen3_5", 4096, 300, "ready")
    unload(engine, "m")


def test_progress_reaches_every_byte_before_the_model_is_loaded(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path, "qwen3")
    op = engine.number()
    engine.send(Load(op, "m", str(path)))
    engine.outcome(op)
    mine = [message for message in engine.seen if getattr(message, "op", None) == op]
    steps = [message for message in mine if isinstance(message, Progress)]
    assert {step.stage: step.done_bytes for step in steps}["reading"] == (path / "model.safetensors").stat().st_size
    assert list(dict.fromkeys(step.stage for step in steps)) == ["reading", "building", "trying"]
    assert steps[-1].done_bytes == steps[-1].total_bytes
    assert isinstance(mine[-1], Loaded)
    unload(engine, "m")


def test_an_unknown_architecture_is_unsupported_by_name(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "new", "qwen3")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "qwen99"}))
    kind, message = refused(engine, path)
    assert kind == "model_unsupported"
    assert "qwen99" in message


def test_an_architecture_whose_import_would_end_the_process_is_unsupported(
    engine: EngineClient, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "old", "qwen3")
    (path / "config.json").write_text(json.dumps({"model_type": "olmo"}))
    assert refused(engine, path)[0] == "model_unsupported"


@pytest.mark.parametrize(
    "change", [{"hidden_size": 32}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"num_hidden_layers": "two"}]
)
def test_weights_that_do_not_fit_their_config_fail(
    engine: EngineClient, tmp_path: Path, change: dict[str, object]
) -> None:
    path = write_model(tmp_path / "odd", "qwen3")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **change}))
    assert refused(engine, path)[0] == "model_load_failed"


def test_a_config_without_what_its_architecture_needs_fails(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "bare", "qwen3")
    (path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    assert refused(engine, path)[0] == "model_load_failed"


def test_damaged_weights_fail(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "cut", "qwen3")
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    kind, message = refused(engine, path)
    assert kind == "model_load_failed"
    assert "damaged" in message


@pytest.mark.parametrize("name", ["[a] b", "ü日本", "*?"])
def test_no_character_of_a_directory_keeps_a_model_from_being_loaded(
    engine: EngineClient, tmp_path: Path, name: str
) -> None:
    assert engine.load("m", str(write_model(tmp_path / name, "qwen3"))).card.state == "ready"
    unload(engine, "m")


def test_what_an_earlier_conversion_left_beside_the_files_of_the_index_changes_nothing(
    engine: EngineClient, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "m", "qwen3")
    engine.load("clean", str(path))
    first = "model-00001-of-00001.safetensors"
    (path / "model.safetensors").rename(path / first)
    names = list(read_header("m", path / first)[0])
    for number in range(2, 5):
        write_model(tmp_path / "old", "qwen3", seed=number)
        (tmp_path / "old/model.safetensors").rename(path / f"model-{number:05}-of-00004.safetensors")
    index = {"weight_map": {tensor.name: first for tensor in names}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    engine.load("littered", str(path))
    assert engine.generate("clean", [1, 2, 3], 8) == engine.generate("littered", [1, 2, 3], 8)
    unload(engine, "clean")
    unload(engine, "littered")


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 4000},
        {"layer_types": ["full_attention"] * 150_000, "num_hidden_layers": 4096},
        {"max_position_embeddings": 10**31},
        {"num_attention_heads": 2**62},
    ],
    ids=str,
)
def test_a_config_that_describes_what_there_are_no_weights_for_is_refused_before_it_is_built(
    engine: EngineClient, tmp_path: Path, change: dict[str, object]
) -> None:
    path = write_model(tmp_path / "vast", "llama")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **change}))
    assert refused(engine, path)[0] == "model_load_failed"


def test_a_directory_that_is_not_there_is_not_found(engine: EngineClient, tmp_path: Path) -> None:
    assert refused(engine, tmp_path / "nowhere")[0] == "model_not_found"


def write_adapter(directory: Path, *, rank: int = 4, missing: str = "") -> Path:
    """A LoRA adapter of random weights for the feed-forward layers of a random qwen3."""
    import mlx.core as mx

    directory.mkdir()
    keys = mx.random.split(mx.random.key(5), 4)
    weights = {}
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.down_proj"
        weights[f"{name}.lora_a"] = mx.random.normal((128, rank), key=keys[2 * layer])
        weights[f"{name}.lora_b"] = mx.random.normal((rank, 64), key=keys[2 * layer + 1])
    mx.save_safetensors(str(directory / "adapters.safetensors"), weights)
    parameters = {"rank": rank, "scale": 10.0, "dropout": 0.0, "keys": ["mlp.down_proj"]}
    parameters.pop(missing, None)
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("bits", [None, 4])
def test_an_adapter_changes_what_the_model_says(engine: EngineClient, tmp_path: Path, bits: int | None) -> None:
    path = str(write_model(tmp_path / "m", "qwen3", bits=bits))
    engine.load("plain", path)
    engine.load("tuned", path, adapter=str(write_adapter(tmp_path / "adapter")))
    assert engine.generate("plain", [1, 2, 3], 8) != engine.generate("tuned", [1, 2, 3], 8)
    unload(engine, "plain")
    unload(engine, "tuned")


def test_an_adapter_that_is_absent_or_does_not_fit_is_refused(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", "qwen3")
    assert refused(engine, path, str(tmp_path / "nowhere"))[0] == "model_not_found"
    assert refused(engine, path, str(write_adapter(tmp_path / "adapter", missing="scale")))[0] == "model_load_failed"


def test_an_adapter_that_describes_more_than_it_holds_is_refused(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "m", "qwen3")
    adapter = write_adapter(tmp_path / "adapter", rank=4)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["lora_parameters"] |= {"rank": 4096, "keys": ["self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (adapter / "adapters.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    kind, message = refused(engine, path, str(adapter))
    assert kind == "model_load_failed"
    assert "describes more than its weights hold" in message


@pytest.mark.parametrize("model_type", ["base", "cache", "switch_layers", "../qwen3", "llama.os"])
def test_a_model_type_that_is_no_architecture_is_unsupported(
    engine: EngineClient, tmp_path: Path, model_type: str
) -> None:
    path = write_model(tmp_path / "odd", "qwen3")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    assert refused(engine, path)[0] == "model_unsupported"


def test_code_of_a_model_is_run_for_those_who_trust_it(engine: EngineClient, tmp_path: Path) -> None:
    path = write_model(tmp_path / "own", "qwen3")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_file": "own.py"}))
    (path / "own.py").write_text("from mlx_lm.models.qwen3 import Model, ModelArgs\n")
    kind, message = refused(engine, path)
    assert kind == "model_unsupported"
    assert "--trust-remote-code" in message
    with ready_engine(engine="mlx", trust_remote_code=True) as trusting:
        assert trusting.load("m", str(path)).card.state == "ready"
        unload(trusting, "m")
        (path / "own.py").write_text("raise SystemExit('out')")
        assert refused(trusting, path)[0] == "model_load_failed"
