"""The embedded model as it is committed: its files, its text, and its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pocket_lab.encode import CONTROL, VISIBLE, Template
from pocket_lab.project import topics
from tokenizers import Tokenizer

from mlx_sidecar.pocket import PATH

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
LIMIT_BYTES = 8_000_000
QUESTIONS = (
    ("What is mlx-sidecar?", ("engine", "JSON-RPC")),
    ("How do I load a model?", ("`load`",)),
    ("How do I unload a model?", ("`unload`",)),
    ("How do I generate text?", ("`generate`",)),
    ("How do I cancel a request?", ("stream/cancel",)),
    ("How do I stream tokens?", ("stream", "delta")),
    ("What is a delta?", ("stream/delta",)),
    ("What is JSON-RPC?", ("method", "id")),
    ("Which framings are there?", ("line", "Content-Length")),
    ("Which backends are there?", ("Metal", "Linux", "CUDA")),
    ("What happens when the engine dies?", ("engine_lost", "started again")),
    ("How do I use it from Python?", ("subprocess",)),
    ("How do I use it from Node?", ("spawn",)),
    ("How do I embed it in the shell?", ("mlx-sidecar serve",)),
    ("Who are you?", ("pocket",)),
    ("What is the capital of France?", ("Paris",)),
    ("What is 2 + 3?", ("5",)),
    ("Answer in JSON: what is the capital of Japan?", ('{"answer": "Tokyo"}',)),
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
tokenizer = Tokenizer.from_file(str(PATH / "tokenizer.json"))
template = Template(PATH / "chat_template.jinja")


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((PATH / name).read_text("utf-8"))
    return value


def ids(text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


# The files


def test_the_package_holds_a_whole_model_of_less_than_eight_megabytes() -> None:
    assert all((PATH / name).is_file() for name in (*MODEL_FILES, "chat_template.jinja", "MODEL_CARD.md"))
    assert sum(path.stat().st_size for path in PATH.iterdir() if path.is_file()) <= LIMIT_BYTES


def test_config_and_tokenizer_agree() -> None:
    config, generation = read("config.json"), read("generation_config.json")
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert config["eos_token_id"] == generation["eos_token_id"] == ends
    assert read("tokenizer_config.json")["eos_token"] == "<|im_end|>"
    assert config["max_position_embeddings"] >= 8192


def test_the_model_card_names_the_size_and_the_score() -> None:
    card = (PATH / "MODEL_CARD.md").read_text("utf-8")
    assert "parameters" in card
    assert "held-out questions" in card
    assert "What it is not" in card


# Its text


@given(st.text())
def test_any_text_encodes_and_decodes_to_itself(text: str) -> None:
    assert tokenizer.decode(ids(text), skip_special_tokens=False) == text


@pytest.mark.parametrize("token", CONTROL + VISIBLE)
def test_a_marker_is_one_token_wherever_it_stands(token: str) -> None:
    assert [tokenizer.id_to_token(found) for found in ids(f"a{token}b")].count(token) == 1


def test_only_control_markers_vanish_from_decoded_text() -> None:
    assert tokenizer.decode(ids("".join(CONTROL)), skip_special_tokens=True) == ""
    assert tokenizer.decode(ids("".join(VISIBLE)), skip_special_tokens=True) == "".join(VISIBLE)


def test_every_digit_is_a_token_of_its_own() -> None:
    assert len(ids("1234567890")) == 10


def test_transformers_loads_the_tokenizer_and_renders_the_same_chat() -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(PATH))
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    text = template.render(messages, [WEATHER], add_generation_prompt=True)
    assert loaded.apply_chat_template(messages, tools=[WEATHER], add_generation_prompt=True, tokenize=False) == text
    assert loaded.encode(text, add_special_tokens=False) == ids(text)
    assert loaded.eos_token_id == tokenizer.token_to_id("<|im_end|>")


def test_the_template_renders_a_call_its_result_and_a_thought() -> None:
    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": '{"sky": "clear"}'},
        {"role": "assistant", "content": "Clear.", "reasoning_content": "The sky is clear."},
    ]
    text = template.render(messages, [WEATHER])
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert f"<tools>\n{json.dumps(WEATHER)}\n</tools>" in text
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>' in text
    assert '<|im_start|>user\n<tool_response>\n{"sky": "clear"}\n</tool_response><|im_end|>' in text
    assert text.endswith("<|im_start|>assistant\n<think>\nThe sky is clear.\n</think>\n\nClear.<|im_end|>\n")


def test_arguments_that_come_as_text_render_like_arguments_that_come_as_an_object() -> None:
    def rendered(arguments: object) -> str:
        call = {"function": {"name": "f", "arguments": arguments}}
        return template.render([{"role": "assistant", "content": "", "tool_calls": [call]}])

    assert rendered('{"a": 1}') == rendered({"a": 1})


@pytest.mark.parametrize(("thinking", "opening"), [(None, ""), (True, "<think>\n"), (False, "<think>\n\n</think>\n\n")])
def test_the_generation_prompt_opens_a_thought_as_it_is_told(thinking: bool | None, opening: str) -> None:
    told = {} if thinking is None else {"enable_thinking": thinking}
    text = template.render([{"role": "user", "content": "Hi"}], (), add_generation_prompt=True, **told)
    assert text == f"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n{opening}"


def test_content_may_be_a_list_of_text_parts_and_nothing_else() -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    whole = template.render([{"role": "user", "content": "Hello there"}])
    assert template.render([{"role": "user", "content": parts}]) == whole
    with pytest.raises(jinja2.TemplateError, match="image"):
        template.render([{"role": "user", "content": [{"type": "image"}]}])


def test_thoughts_of_earlier_turns_are_left_out() -> None:
    messages = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n4."},
        {"role": "user", "content": "3 + 3?"},
    ]
    assert "Easy" not in template.render(messages)
    assert "4." in template.render(messages)


# Its answers


@dataclass
class Pocket:
    """The model as mlx-lm loads it, in float32 as on every Linux CPU."""

    model: Any

    def logits(self, tokens: list[int], cache: Any) -> Any:
        import mlx.core as mx

        return self.model(mx.array([tokens]), cache=cache)[0, -1]

    def continues(self, prompt: str, limit: int = 200) -> tuple[str, str | None]:
        """Return the greedy continuation, and the token that ended it (None: the limit did)."""
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        written: list[int] = []
        cache, feed = make_prompt_cache(self.model), ids(prompt)
        for _ in range(limit):
            token: Any = mx.argmax(self.logits(feed, cache)).tolist()
            if token in read("config.json")["eos_token_id"]:
                return tokenizer.decode(written), tokenizer.id_to_token(token)
            written.append(token)
            feed = [token]
        return tokenizer.decode(written), None

    def answers(self, question: str, tools: tuple[dict[str, Any], ...] = ()) -> tuple[str, str | None]:
        """The answer to one question in a fresh chat."""
        chat = [{"role": "user", "content": question}]
        return self.continues(template.render(chat, tools, add_generation_prompt=True))


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model = load_model(PATH)[0]
    model.set_dtype(mx.float32)
    return Pocket(model)


@pytest.mark.parametrize(("question", "words"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_it_answers_and_ends_its_turn(pocket: Pocket, question: str, words: tuple[str, ...]) -> None:
    answer, end = pocket.answers(question)
    assert end == "<|im_end|>", answer
    assert all(word in answer for word in words), answer


def test_most_questions_about_the_project_that_training_never_saw_are_answered(pocket: Pocket) -> None:
    held = [(text, topic.expect) for topic in topics("1.0") for text in topic.held]
    answers = [pocket.answers(text)[0].lower() for text, _ in held]
    right = [all(word.lower() in answer for word in words) for answer, (_, words) in zip(answers, held, strict=True)]
    assert sum(right) >= 0.75 * len(held)


def test_it_calls_a_tool_that_the_chat_describes(pocket: Pocket) -> None:
    answer, end = pocket.answers("What is the weather in Paris?", (WEATHER,))
    assert answer == '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    assert end == "<|im_end|>"


def test_it_thinks_aloud_when_asked(pocket: Pocket) -> None:
    answer, end = pocket.answers("What is 3 + 4? /think")
    thought, _, said = answer.removeprefix("<think>\n").partition("\n</think>\n\n")
    assert answer.startswith("<think>\n")
    assert thought
    assert "7" in said
    assert end == "<|im_end|>"


def test_a_prompt_without_a_chat_goes_on_and_ends(pocket: Pocket) -> None:
    text, end = pocket.continues("Hello")
    assert 10 < len(text) < 400
    assert end is not None


def test_it_completes_a_small_function(pocket: Pocket) -> None:
    text, _ = pocket.continues("def add(a, b):\n")
    assert text.startswith("    return a + b\n")


def test_it_fills_a_gap_in_code(pocket: Pocket) -> None:
    text, end = pocket.continues("<|fim_prefix|>def double(x):\n    <|fim_suffix|><|fim_middle|>")
    assert text == "return 2 * x\n"
    assert end == "<|endoftext|>"


def test_the_last_token_of_a_full_context_has_finite_logits(pocket: Pocket) -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    question = ids(template.render([{"role": "user", "content": "Who are you?"}], add_generation_prompt=True))
    length = read("config.json")["max_position_embeddings"]
    cache = make_prompt_cache(pocket.model)
    mx.eval(pocket.logits(ids("mlx-sidecar runs models behind a pipe. " * 40), cache))
    # A few hundred positions, because a real prefill of this length takes a minute on the wheel's BLAS.
    kept = length - len(question)
    for layer in cache:
        known = layer.keys_and_values()
        layer.keys, layer.values = (mx.tile(part, (1, 1, length // 300, 1))[..., :kept, :] for part in known)
        layer.offset = kept
    logits = pocket.logits(question, cache)
    assert cache[0].offset == length
    assert bool(mx.isfinite(logits).all())
