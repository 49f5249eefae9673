"""The features of requests, and which pairs of these cannot be had: the one list behind tests and docs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations

from tests.support.host import Frame

Pair = frozenset[str]

# Longer than two tokens for each character of every answer that the forms allow.
LONGEST = 400
# Longer than any test, where a request is to meet something else before its deadline.
FAR_S = 600.0
# Some steps, so that a request ends in its middle, or at its beginning where the machine is slow.
NEAR_S = 0.05


class Effect(Enum):
    """The effect of a feature on the tokens of an answer, as the table shows it."""

    CHANGES = "+"
    KEEPS = "="
    CUTS = "<"


@dataclass(frozen=True)
class Feature:
    """A ``name``, how a host asks for it or what happens (``how``), and the parameters of ``generate`` it adds."""

    name: str
    how: str
    effect: Effect
    params: Frame = field(default_factory=dict)


def _object(**properties: Frame) -> Frame:
    return {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        },
    }


_NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 8, "maxItems": 8}
FORM = {**_object(text={"type": "string", "minLength": 20, "maxLength": 24}, list=_NUMBERS), "whitespace": "flexible"}
FORCED_FORM = _object(
    what={"const": "a text that the form gives away, and no token of it is chosen"},
    which={"enum": ["the first of two", "the second of two"]},
    text={"type": "string", "minLength": 16, "maxLength": 20},
    list=_NUMBERS,
)
BANNED, FAVOURED, UNNEEDED = 229, 66, 49  # a byte beyond ASCII, "c" and "R"; no form needs the first or the last
SEED = 12345
GUARD = 12  # tokens of a loop, into which models of random weights fall soon
BUDGET = 20  # tokens of reasoning; only the model that has a token for its end may end it before
# A random model writes no call by itself, so that it must.
TOOL: Frame = {"name": "note", "parameters": FORM["schema"]}
HEAD = '<tool_call>\n{"name": "note", "arguments": '  # of a call in the format that is asked for
# A call that need not be begins with a token of its own, which is made likely.
BEGIN, BEGIN_TOKEN = "<|tool_call|>", 299
LAZY_HEAD = f'{BEGIN}[{{"name": "note", "arguments": '
LIKELY = 3  # enough that a call comes behind a few tokens of text
DRAFT = "draft"  # the name of a model, which its path takes the place of
ADAPTER = "tuned"  # the name of an adapter that each model has which can
# Other requests beside a request, of the same model, by the name of the feature and the method. The instructions are
# long enough to be found in the cache, which keeps blocks of 64 tokens.
_INSTRUCTION = "Find the passage that answers the question, whatever else it says, and the one that does not."
BESIDE: dict[str, Frame] = {
    "embed": {
        "input": ["a text", "another one", "one that is longer than both"],
        "instruction": _INSTRUCTION,
        "pooling": "last",
    },
    "rerank": {"query": "which?", "documents": ["this one", "or that"], "instruction": _INSTRUCTION},
}

_CHAT: Frame = {
    "tokens": None,
    "messages": [{"role": "user", "content": "".join(chr(33 + 11 * at % 90) for at in range(24)) * 3}],
}

FEATURES = [
    Feature("grammar", "`response_format`: a JSON schema", Effect.CHANGES, {"response_format": FORM}),
    Feature("forced tokens", "a schema with constants", Effect.CHANGES, {"response_format": FORCED_FORM}),
    Feature(
        "tool call",
        '`tool_choice: "required"`',
        Effect.CHANGES,
        {
            **_CHAT,
            "tools": [TOOL],
            "tool_choice": "required",
            "tool_format": "hermes",
            "parallel_tool_calls": False,
            "template_args": {"enable_thinking": False},
        },
    ),
    Feature(
        "lazy call",
        'a tool with `strict`, and `tool_choice: "auto"`',
        Effect.CHANGES,
        {
            **_CHAT,
            "tools": [{**TOOL, "strict": True}],
            "tool_choice": "auto",
            "tool_format": "granite3",
            "parallel_tool_calls": False,
            "template_args": {"enable_thinking": False},
            "logit_bias": {str(BEGIN_TOKEN): LIKELY},
        },
    ),
    Feature(
        "parsed output",
        "`messages`, whose answers are parsed",
        Effect.CHANGES,
        {**_CHAT, "template_args": {"enable_thinking": False}},
    ),
    Feature(
        "reasoning budget",
        f"`reasoning_budget: {BUDGET}`",
        Effect.CHANGES,
        {**_CHAT, "template_args": {"enable_thinking": True}, "reasoning_budget": BUDGET},
    ),
    Feature("ngram", '`speculation: {"ngram": true}`', Effect.KEEPS, {"speculation": {"ngram": True}}),
    Feature("draft", '`speculation: {"draft": …}`', Effect.KEEPS, {"speculation": {"draft": DRAFT, "max_tokens": 4}}),
    Feature("seed", "`seed` at a temperature", Effect.CHANGES, {"seed": SEED, "temperature": 0.9}),
    Feature("temperature", "`temperature`", Effect.CHANGES, {"temperature": 0.9}),
    Feature("top-p", "`top_p` at a temperature", Effect.CHANGES, {"temperature": 0.9, "top_p": 0.7}),
    Feature("top-k", "`top_k` at a temperature", Effect.CHANGES, {"temperature": 0.9, "top_k": 12}),
    Feature("min-p", "`min_p` at a temperature", Effect.CHANGES, {"temperature": 0.9, "min_p": 0.1}),
    Feature(
        "penalties",
        "`repetition_penalty`, `presence_penalty`, `frequency_penalty`",
        Effect.CHANGES,
        {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.3},
    ),
    Feature("bias", "`logit_bias`", Effect.CHANGES, {"logit_bias": {str(BANNED): -100, str(FAVOURED): 2}}),
    Feature("adapter", "`adapter`: of this request alone", Effect.CHANGES, {"adapter": ADAPTER}),
    Feature("logprobs", "`logprobs: 2`", Effect.KEEPS, {"logprobs": 2}),
    Feature("stop string", "`stop`", Effect.CHANGES),
    Feature("stop token", "`stop_tokens`", Effect.CHANGES),
    Feature("repeat guard", f"`repeat_guard: {GUARD}`", Effect.CHANGES, {"repeat_guard": GUARD}),
    Feature("window", "`window: 2`, acknowledged when it is full", Effect.KEEPS, {"window": 2}),
    Feature("deadline", "`deadline_s`", Effect.CUTS, {"deadline_s": NEAR_S}),
    Feature("preemption", "32 critical requests come", Effect.KEEPS, {"priority": "low"}),
    Feature("prefix hit", "the prompt is cached", Effect.KEEPS),
    Feature("kill", "the engine is killed", Effect.KEEPS),
    Feature("unload", "the model is unloaded by force", Effect.CUTS),
    Feature("sliding window", "a model with layers that see 32 tokens", Effect.CHANGES),
    Feature("recurrent", "a model with layers that keep no keys", Effect.CHANGES),
    Feature("embed", "`embed`: vectors are asked of the model meanwhile", Effect.KEEPS),
    Feature("rerank", "`rerank`: scores are asked of the model meanwhile", Effect.KEEPS),
    Feature("exact", "`serve --numerics exact`", Effect.KEEPS),
    Feature("fast", "`serve --numerics fast`", Effect.KEEPS),
    Feature("float16", "`serve --kv-cache-dtype float16`", Effect.CHANGES),
]
BY_NAME = {feature.name: feature for feature in FEATURES}
EVENTS = frozenset({"preemption", "kill", "unload"})
NUMERICS = ("exact", "fast")
# The features that options of `serve` give an engine, and these options.
OPTIONS = {
    "exact": ("--numerics", "exact"),
    "fast": ("--numerics", "fast"),
    "float16": ("--kv-cache-dtype", "float16"),
}

_WRITTEN_OVER = (
    "the state of such layers is written over, so that tokens which were proposed in vain cannot be taken back"
)
_NO_JUDGE = "documents are scored by a classifier or a Qwen3, and the tests' models of this kind are neither"
_HAS_A_FORM = "an answer that must be a call has no other form"
# Refused by the name of ``speculation``, and by those of ``tool_choice`` and ``response_format``, for these reasons.
PROPOSALS_REFUSED: dict[Pair, str] = {Pair({proposer, "recurrent"}): _WRITTEN_OVER for proposer in ("ngram", "draft")}
# Refused by the name of ``adapter``.
ADAPTERS_REFUSED: dict[Pair, str] = {
    Pair({"adapter", "recurrent"}): "rows of such models are in caches of mlx-lm's own, and computed without adapters"
}
# Refused by the name of ``model``.
VECTORS_REFUSED: dict[Pair, str] = {
    Pair({"embed", "recurrent"}): "rows in caches of mlx-lm's own give no hidden states",
    **{Pair({"rerank", kind}): _NO_JUDGE for kind in ("sliding window", "recurrent")},
}
FORMS_REFUSED: dict[Pair, str] = {Pair({form, "tool call"}): _HAS_A_FORM for form in ("grammar", "forced tokens")}
REFUSED = PROPOSALS_REFUSED | ADAPTERS_REFUSED | VECTORS_REFUSED | FORMS_REFUSED
# Nothing to refuse: there is no way to ask for both.
ALTERNATIVES: dict[Pair, str] = {
    Pair({"tool call", "lazy call"}): "a call must be, or it need not be",
    Pair({"sliding window", "recurrent"}): "they are two kinds of models, each of which is tried with everything else",
    Pair(NUMERICS): "an engine computes in one way, which `serve` is told",
}


def pairs() -> list[Pair]:
    """Return all pairs of features, in the order of the list."""
    return [Pair(pair) for pair in combinations(BY_NAME, 2)]


def symbol(pair: Pair) -> str:
    """Return what the table has for a pair that works: what holds of an answer that has both."""
    effects = {BY_NAME[name].effect for name in pair}
    order = (Effect.CUTS, Effect.KEEPS, Effect.CHANGES)
    return str(next(effect.value for effect in order if effect in effects))
