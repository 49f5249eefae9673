"""With ``escape_special`` no text of a host becomes a control token; without such texts nothing differs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mlx_sidecar.link.token_table import ByteLevel
from mlx_sidecar.text.disguise import Disguise
from mlx_sidecar.text.escape import Chat
from mlx_sidecar.text.prompts import encode_prompt
from mlx_sidecar.text.slow import SlowTokens
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter
from tests.support.text_models import KINDS, byte_level, write_model

CHATML = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if date %}{{ date }}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Each template's own text ends where a text of the chat begins, so that both may make one token together.
TEMPLATES = {
    "chatml": CHATML,
    "trimmed": "{% for m in messages %}<|im_start|>{{ m.content | trim }}<|im_end|>{% endfor %}</s>",
    "thinking": (
        "{% for m in messages %}<|im_start|>{% set c = m.content %}{% if '</think>' in c %}"
        "{% set c = c.split('</think>')[-1] %}{% endif %}{{ c }}<|im_end|>{% endfor %}"
    ),
    "open": "{% for m in messages %}<|im_{{ m.content }}end|><s{{ m.name or '' }}></s>{{ m.content }}{% endfor %}",
    "roles": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}",
}
CONTROLS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "<|user|>", "<|>", "¶"]
PARTS = [*CONTROLS, "<|im_", "end|>", "<s", ">", "|", "s", "im_end", " ", "\n", "the engine", '"', "\\", "\ue000", "é"]
FRAGMENTS = [part for part in PARTS if part not in CONTROLS]
PLAIN = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=6).map("".join)
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=4)), max_size=8).map("".join)


def with_merges() -> tuple[Tokenizer, dict[str, Any]]:
    """Make a byte-level tokenizer whose merges lead to a control token's text."""
    tokenizer, config = byte_level()
    described = json.loads(tokenizer.to_str())
    vocabulary, merges = described["model"]["vocab"], described["model"]["merges"]
    kept, last = merges[:-2], ["".join(merge) for merge in merges[-2:]]
    described["model"]["merges"] = [["<", "|"], ["<|", ">"], *kept]
    vocabulary |= {"<|": vocabulary.pop(last[0]), "<|>": vocabulary.pop(last[1])}
    described["added_tokens"].append({**described["added_tokens"][0], "id": vocabulary["<|>"], "content": "<|>"})
    return Tokenizer.from_str(json.dumps(described)), config


def whole_words() -> tuple[Tokenizer, dict[str, Any]]:
    """Make a vocabulary, with SentencePiece's spaces, in which texts are looked up whole, control tokens' too."""
    vocabulary = {text: token for token, text in enumerate(["<unk>", "<s>", "</s>", "▁", "▁<s>", "<", "s", ">", "/"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, ignore_merges=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def first_only() -> tuple[Tokenizer, dict[str, Any]]:
    """Make a tokenizer like Mistral's: a space before the first word of the text, none behind a control token."""
    tokenizer, config = KINDS["llama_like"]()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_tokens([AddedToken("[INST]", special=True, rstrip=True), AddedToken("[/INST]", lstrip=True)])
    return tokenizer, config


def folded() -> tuple[Tokenizer, dict[str, Any]]:
    """Make a tokenizer that looks for control tokens in normalised text."""
    tokenizer, config = byte_level()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.add_tokens([AddedToken("<note>", special=True, normalized=True), AddedToken("word", single_word=True)])
    return tokenizer, config


SHAPES: dict[str, Callable[[], tuple[Tokenizer, dict[str, Any]]]] = {
    **KINDS,
    **{shape.__name__: shape for shape in (with_merges, whole_words, first_only, folded)},
}


@pytest.fixture(scope="module", params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer of ``shape`` that knows all ``CONTROLS``."""
    tokenizer, config = SHAPES[shape]()
    tokenizer.add_special_tokens(
        [each for each in CONTROLS if tokenizer.token_to_id(each) is None or each in ("<s>", "</s>", "<|>")]
    )
    return write_model(tmp_path_factory.mktemp(shape), tokenizer, config)


@pytest.fixture(scope="module", params=list(TEMPLATES))
def chats(request: pytest.FixtureRequest, path: Path) -> TextModel:
    (path / "chat_template.jinja").write_text(TEMPLATES[request.param])
    return TextModel.load(path)


@pytest.fixture(scope="module")
def prompts(path: Path) -> TextModel:
    return TextModel.load(path)


def controls(model: TextModel, tokens: list[int]) -> list[int]:
    """Return the control tokens among ``tokens``, except the unknown token."""
    found = model._tokens.controls
    assert found is not None
    known = {model._tokens.token_id(text) for text in found.texts}
    unknown = {model._tokens.token_id(text) for text in ("<unk>", "[UNK]")}
    return [token for token in tokens if token in known - unknown]


@settings(max_examples=20)
@given(text=TEXTS)
@example(text="<s>")
@example(text=" <s> <s>x")
@example(text="the engine <|im_end|> answers")
@example(text="＜ｎｏｔｅ＞<NOTE> word <s>")
def test_no_text_of_a_prompt_becomes_a_control_token(prompts: TextModel, text: str) -> None:
    around = prompts.encode("", True)
    tokens = prompts.encode_prompt(text, True, True)
    assert controls(prompts, tokens) == controls(prompts, around)
    alone = prompts.encode_prompt(text, False, True)
    assert controls(prompts, alone) == []
    assert tokens[len(tokens) - len(alone) - len(around) :] == tokens
    byte_level = isinstance(prompts._tokens.family, ByteLevel)
    if byte_level and prompts.decode(prompts.encode(text, False)) == text:
        assert prompts.decode(alone) == text


@settings(max_examples=20)
@given(text=st.one_of(st.text(), TEXTS))
def test_a_text_without_control_tokens_is_tokenised_as_ever(prompts: TextModel, text: str) -> None:
    if not controls(prompts, prompts.encode(text, False)):
        assert prompts.encode_prompt(text, False, True) == prompts.encode(text, False)
        assert prompts.encode_prompt(text, True, True) == prompts.encode(text, True)


def chat_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return a chat with each of ``texts`` in its place."""
    call = {"type": "function", "function": {"name": texts["name"], "arguments": {texts["key"]: texts["value"]}}}
    described = {"description": texts["description"], "parameters": {"properties": {texts["key"]: {"type": "string"}}}}
    return {
        "messages": [
            {"role": "user", "content": texts["first"], "name": texts["name"]},
            {"role": "assistant", "content": texts["second"], "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": texts["name"], **described}}],
        "template_args": {"date": texts["date"]},
    }


FIELDS = ("first", "second", "name", "key", "value", "description", "date")
CHATS = st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXTS))


def own_controls(model: TextModel, texts: Mapping[str, str]) -> list[int]:
    """Return the template's own control tokens, from texts without any that are empty where ``texts`` are."""
    others = {field: "\u4e00" if text.strip() else text for field, text in texts.items()}
    return controls(model, model.encode(model.render(**chat_of(others)).text, False))


@settings(max_examples=20, deadline=None)
@given(texts=CHATS)
@example(texts=dict.fromkeys(FIELDS, "<|im_end|>"))
@example(texts=dict.fromkeys(FIELDS, "end|>"))
@example(texts=dict.fromkeys(FIELDS, "x</think>y"))
@example(texts=dict.fromkeys(FIELDS, ""))
def test_the_control_tokens_of_a_chat_are_the_templates(chats: TextModel, texts: dict[str, str]) -> None:
    chat = escaped(chats, **chat_of(texts))
    assert controls(chats, chat.tokens) == own_controls(chats, texts)


@settings(max_examples=20, deadline=None)
@given(texts=st.fixed_dictionaries(dict.fromkeys(FIELDS, PLAIN)))
@example(texts=dict.fromkeys(FIELDS, "string"))
def test_a_chat_without_control_tokens_in_its_texts_is_that_of_the_template(
    chats: TextModel, texts: dict[str, str]
) -> None:
    plain = chats.render(**chat_of(texts)).text
    if controls(chats, chats.encode(plain, False)) != own_controls(chats, texts):
        return  # texts and template make a control token together
    assert escaped(chats, **chat_of(texts)) == (plain, chats.encode(plain, False))


def escaped(model: TextModel, messages: list[dict[str, Any]], **more: Any) -> Chat:
    rendered, tokens = model.chat(messages, escape=True, **more)
    return Chat(rendered.text, tokens)


def chat_with(make_model: Callable[..., Path], template: str, kind: str = "byte_level") -> TextModel:
    return TextModel.load(make_model(kind, {"chat_template": template}))


def test_what_a_template_looks_for_in_a_text_is_not_found_in_disguise(make_model: Callable[..., Path]) -> None:
    model = chat_with(make_model, TEMPLATES["thinking"])
    messages = [{"role": "assistant", "content": "<think>hm</think>Hi"}]
    assert model.render(messages).text == "<|im_start|>Hi<|im_end|>"
    chat = escaped(model, messages)
    assert chat.text == "<|im_start|><think>hm</think>Hi<|im_end|>"
    assert [model._tokens.token(token) for token in controls(model, chat.tokens)] == ["<|im_start|>", "<|im_end|>"]


def test_a_short_text_that_a_template_compares_stays_what_it_is(make_model: Callable[..., Path]) -> None:
    template = "{% for m in messages %}<|im_start|>{{ 'yes' if m.content == 'im' else 'no' }}<|im_end|>{% endfor %}"
    model = chat_with(make_model, template)
    assert escaped(model, [{"role": "user", "content": "im"}]).text == "<|im_start|>yes<|im_end|>"


def test_arguments_written_as_json_stay_json(make_model: Callable[..., Path]) -> None:
    model = chat_with(
        make_model, "{% for m in messages %}{{ m.tool_calls[0].function.arguments }}<|im_end|>{% endfor %}"
    )
    for arguments in ('{"a": "<|im_end|>", "b": [1.5, true, null, "\\"\\u00e9"]}', "<|im_end|>", '["</s>"'):
        messages = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]
        chat = escaped(model, messages)
        assert chat.text == arguments + "<|im_end|>"
        assert len(controls(model, chat.tokens)) == 1


def test_text_that_a_template_writes_in_ascii_comes_back(make_model: Callable[..., Path]) -> None:
    template = "{{ messages | tojson(ensure_ascii=True) }}<|im_end|>"
    model = chat_with(make_model, template)
    messages = [{"role": "user", "content": 'é "<|im_end|>" \\ue0a0 \ue000 \\'}]
    chat = escaped(model, messages)
    assert chat.text == model.render(messages).text
    assert len(controls(model, chat.tokens)) == 1


@given(text=st.one_of(st.text(), TEXTS))
def test_a_disguise_comes_off_again(text: str) -> None:
    disguise = Disguise(sorted(set("".join(CONTROLS))), [text])
    hidden = disguise.of({"content": text, "list": [text, 1, None]}, lambda _, path: True)
    assert not any(control in hidden.get("content", "") for control in CONTROLS)
    assert [disguise.off(each) for each in hidden.values() if isinstance(each, str)] in ([text], [])


def test_more_different_characters_than_can_be_disguised_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        Disguise(map(chr, range(0x4E00, 0x6E00)), [])
    assert refused.value.data["name"] == "escape_special"


def test_a_vocabulary_that_makes_control_tokens_of_plain_text_is_rewritten(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    for name, shape in (("merges", with_merges), ("unigram", KINDS["unigram"])):
        tokenizer, config = shape()
        text = {"merges": "<|>", "unigram": "</s>"}[name]
        tokenizer.add_special_tokens([text])
        model = TextModel.load(write_model(tmp_path / name, tokenizer, config))
        found = model._tokens.controls
        assert found is not None
        token = model._tokens.token_id(text)
        renamed = found._renamed.encode(text, ())  # type: ignore[attr-defined]
        assert token in renamed, "the shape does not show what it is made for"
        assert token not in model.encode_prompt(text, False, True)


class Slow:
    """A tokenizer of transformers that is written in Python."""

    all_special_ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return 3


def test_a_tokenizer_of_another_library_refuses_by_name(make_model: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        encode_prompt(SlowTokens(Slow()), "x", True, True)
    assert refused.value.data["name"] == "escape_special"


def test_what_a_template_objects_to_is_told_as_without(make_model: Callable[..., Path]) -> None:
    model = chat_with(make_model, "{{ raise_exception('no ' ~ messages[0].content) }}")
    with pytest.raises(InvalidParams) as refused:
        escaped(model, [{"role": "user", "content": "<|im_end|>"}])
    assert refused.value.data["errors"][0]["msg"] == "no <|im_end|>"


def test_a_tokenizer_that_takes_no_unknown_characters_is_loaded_and_refuses_by_name(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.Unigram([("a", -1.0), ("<", -2.0), (">", -2.0), ("s", -1.0)]))
    tokenizer.add_special_tokens(["<s>"])
    path = write_model(tmp_path, tokenizer, {"chat_template": "<s>{{ messages[0].content }}<s>"})
    model = TextModel.load(path)
    token = model._tokens.token_id("<s>")
    assert model.encode_prompt("a<s>a", False, True) == [0, 1, 3, 2, 0]
    assert escaped(model, [{"role": "user", "content": "aa"}]).tokens == [token, 0, 0, token]
    with pytest.raises(UnsupportedParameter) as refused:
        escaped(model, [{"role": "user", "content": "a<s>a"}])
    assert refused.value.data["name"] == "escape_special"
