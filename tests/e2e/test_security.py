"""Hostile names and hostile models: each is answered with a typed error, and the connection goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar import pocket
from tests.support.host import Frame
from tests.support.sidecar import Sidecar, sidecar
from tests.text.evil import ENDLESS, NOT_COMPILED

CHAT = [{"role": "user", "content": "Hi"}]


def copy_of_pocket(path: Path, **config: Any) -> Path:
    """A model of our own to spoil; ``config`` goes into config.json."""
    shutil.copytree(pocket.PATH, path)
    if config:
        known = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**known, **config}))
    return path


def named(error: Frame) -> Any:
    """The field that is at fault."""
    assert error["data"]["kind"] == "invalid_params", error
    return error["data"]["errors"][0]["loc"]


def serves(process: Sidecar) -> None:
    assert process.call("ping") == {}
    assert process.call("tokenize", {"model": "pocket", "text": "a"})["count"] >= 1


def test_the_front_answers_while_an_endless_template_runs_and_its_model_is_refused(tmp_path: Path) -> None:
    model = str(copy_of_pocket(tmp_path / "evil"))
    (tmp_path / "evil" / "chat_template.jinja").write_text(ENDLESS)
    with sidecar() as process:
        endless = [process.request(method, {"model": model, "messages": CHAT}) for method in ("render", "generate")]
        assert process.call("tokenize", {"model": "pocket", "text": "a"})["tokens"]
        serves(process)
        assert not [frame for frame in process.frames if frame.get("id") in endless]
        for id_ in endless:
            assert process.answer(id_)["error"]["data"]["kind"] == "model_unsupported"
        assert process.call("generate", {"model": "pocket", "messages": CHAT, "max_tokens": 1})["tokens"]


def test_a_model_whose_template_does_not_end_is_loaded_and_continues_prompts(tmp_path: Path) -> None:
    model = str(copy_of_pocket(tmp_path / "evil"))
    (tmp_path / "evil" / "chat_template.jinja").write_text(ENDLESS)
    with sidecar() as process:
        assert process.call("load", {"model": model})["load_s"] > 0
        assert process.call("generate", {"model": model, "prompt": "Once", "max_tokens": 1})["tokens"]


@pytest.mark.parametrize("template", NOT_COMPILED, ids=range(len(NOT_COMPILED)))
def test_a_template_that_cannot_be_compiled_spoils_only_chats(shared: Sidecar, tmp_path: Path, template: str) -> None:
    model = str(copy_of_pocket(tmp_path / "evil"))
    (tmp_path / "evil" / "chat_template.jinja").write_text(template)
    shared.call("load", {"model": model})
    error = shared.error("render", {"model": model, "messages": CHAT})
    assert error["data"]["kind"] == "unsupported_parameter"
    assert shared.call("tokenize", {"model": model, "text": "a"})["count"] >= 1


def test_pickled_weights_are_never_opened(shared: Sidecar, tmp_path: Path) -> None:
    model = copy_of_pocket(tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    error = shared.error("load", {"model": str(model)})
    assert error["data"]["kind"] == "model_unsupported"
    assert "pytorch_model.bin" in error["message"]
    serves(shared)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors", "generation_config.json"])
def test_a_pipe_in_place_of_a_file_holds_up_nobody(shared: Sidecar, tmp_path: Path, name: str) -> None:
    model = copy_of_pocket(tmp_path / "piped")
    (model / name).unlink()
    os.mkfifo(model / name)
    kind = shared.error("load", {"model": str(model)})["data"]["kind"]
    assert kind == ("model_not_found" if name == "config.json" else "model_load_failed")
    serves(shared)


@pytest.mark.parametrize("model_type", ["../x", "os.path", "base"])
def test_a_model_type_leads_to_no_other_module(shared: Sidecar, tmp_path: Path, model_type: str) -> None:
    model = copy_of_pocket(tmp_path / "typed", model_type=model_type)
    assert shared.error("load", {"model": str(model)})["data"]["kind"] == "model_unsupported"
    serves(shared)


def test_code_of_a_model_is_refused_and_no_request_can_change_that(shared: Sidecar, tmp_path: Path) -> None:
    model = copy_of_pocket(tmp_path / "own", model_file="own.py")
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    error = shared.error("load", {"model": str(model)})
    assert error["data"]["kind"] == "model_unsupported"
    assert "--trust-remote-code" in error["message"]
    assert named(shared.error("load", {"model": str(model), "trust_remote_code": True})) == ["trust_remote_code"]
    serves(shared)
    assert not (tmp_path / "ran").exists()


def test_code_of_a_model_is_run_under_the_option(tmp_path: Path) -> None:
    kind = json.loads((pocket.PATH / "config.json").read_text())["model_type"]
    model = copy_of_pocket(tmp_path / "own", model_file="own.py")
    (model / "own.py").write_text(f"from mlx_lm.models.{kind} import Model, ModelArgs")
    with sidecar("--trust-remote-code") as process:
        assert process.call("load", {"model": str(model)})["state"] == "ready"


def test_code_of_a_tokenizer_is_refused_without_the_option(shared: Sidecar, tmp_path: Path) -> None:
    model = copy_of_pocket(tmp_path / "own")
    (model / "tokenizer.json").unlink()
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))
    error = shared.error("tokenize", {"model": str(model), "text": "abc"})
    assert error["data"]["kind"] == "model_unsupported"
    assert "--trust-remote-code" in error["message"]
    assert not (tmp_path / "ran").exists()


OWN_TOKENIZER = """
from transformers import PreTrainedTokenizer

class Tokenizer(PreTrainedTokenizer):
    vocab_size = 26
    def get_vocab(self): return {chr(97 + i): i for i in range(26)}
    def _tokenize(self, text, **kwargs): return [c for c in text if c in self.get_vocab()]
    def _convert_token_to_id(self, token): return self.get_vocab().get(token, 0)
    def _convert_id_to_token(self, index): return chr(97 + index)
    def save_vocabulary(self, *args, **kwargs): return ()
"""


def test_code_of_a_tokenizer_is_run_under_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))  # where transformers copies it
    model = copy_of_pocket(tmp_path / "own")
    (model / "tokenizer.json").unlink()
    (model / "own.py").write_text(OWN_TOKENIZER)
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))
    with sidecar("--trust-remote-code") as process:
        params = {"model": str(model), "text": "abc", "add_special": False}
        assert process.call("tokenize", params)["tokens"] == [0, 1, 2]
        answer = process.call("generate", {"model": str(model), "prompt": "abc", "max_tokens": 3, "ignore_eos": True})
        assert answer["usage"]["completion_tokens"] == 3
