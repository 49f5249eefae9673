"""A case is a set of features that one request has. The pairs are cases, and so are random larger sets."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.support.host import Frame

from .features import ALTERNATIVES, BESIDE, BY_NAME, EVENTS, FAR_S, LONGEST, OPTIONS, REFUSED, Effect, Pair, pairs

PROMPT = [(11 * at + 3) % 256 for at in range(24)] * 3
STOPS = frozenset({"stop string", "stop token"})
Engine = frozenset[str]  # the features that its options give it
EXACT, FAST = Engine({"exact"}), Engine({"fast"})
ENGINES = [EXACT, FAST, EXACT | {"float16"}, FAST | {"float16"}]
_LARGER = 24
# Tokens of an answer without a form: with the prompt it is longer than two blocks of the cache.
_LENGTH = 80
# The recurrent model may end its turn while it reasons, which leaves no text to stop at.
_TEXTLESS = frozenset({"recurrent", "reasoning budget", "stop string"})


@dataclass(frozen=True)
class Case:
    """A set of ``features``."""

    features: frozenset[str]

    def __str__(self) -> str:
        return " + ".join(name for name in BY_NAME if name in self.features)

    def __contains__(self, name: str) -> bool:
        return name in self.features

    @property
    def model(self) -> str:
        return next((name for name in ("sliding window", "recurrent") if name in self), "attention")

    @property
    def beside(self) -> list[str]:
        """The methods that are asked beside the request."""
        return [method for method in BESIDE if method in self]

    @property
    def events(self) -> frozenset[str]:
        return self.features & EVENTS

    @property
    def has_form(self) -> bool:
        return bool({"grammar", "forced tokens", "tool call", "lazy call"} & self.features)

    @property
    def streams(self) -> bool:
        return "window" in self or bool(self.events)

    @property
    def undisturbed(self) -> Case:
        """The features without which the tokens would be others."""
        return Case(frozenset(name for name in self.features if BY_NAME[name].effect is Effect.CHANGES))

    @property
    def unstopped(self) -> Case:
        """The undisturbed case, without what it stops at."""
        return Case(self.undisturbed.features - STOPS)

    def with_(self, *names: str) -> Case:
        return Case(self.features | set(names))

    def has_all(self, pair: Pair) -> bool:
        return pair <= self.features

    def params(self) -> Frame:
        """Return what is asked of ``generate``, without the model and what to stop at."""
        params: Frame = {"tokens": PROMPT, "max_tokens": LONGEST if self.has_form else _LENGTH, "seed": 1}
        speculation: Frame = {"ngram": False}
        bias: Frame = {}
        for name, feature in BY_NAME.items():
            if name in self:
                params |= feature.params
                speculation |= feature.params.get("speculation", {})
                bias |= feature.params.get("logit_bias", {})
        params["speculation"] = speculation if {"ngram", "draft"} & self.features else False
        params["logit_bias"] = bias or None
        if self.events and "deadline" in self:
            params["deadline_s"] = FAR_S
        if self.streams:
            params["min_interval_ms"] = 20  # some tokens to a delta, because each frame is held against the schema
        return params

    def params_beside(self, method: str) -> Frame:
        """Return what is asked of ``method`` beside the request, without the model."""
        shared = {name: value for name, value in self.params().items() if name in ("priority", "deadline_s")}
        return {**BESIDE[method], **shared}


def cases_on(engine: Engine) -> list[Case]:
    """Return what ``engine`` is asked: pairs with its features, or of others, and larger sets."""
    return [case for case in pair_cases() if engine in _engines(case)] + larger_cases(engine)


def _engines(case: Case) -> list[Engine]:
    told = case.features & OPTIONS.keys()
    return [next(engine for engine in ENGINES if told <= engine)] if told else [EXACT, FAST]


def possible(features: frozenset[str]) -> bool:
    return not any(pair <= features for pair in (*REFUSED, *ALTERNATIVES))


def pair_cases() -> list[Case]:
    return [Case(pair) for pair in pairs() if possible(pair)]


def larger_cases(engine: Engine) -> list[Case]:
    """Return sets of four to seven features for one engine, the same ones in every run."""
    drawn = random.Random(" ".join(sorted(engine)))
    names = sorted(set(BY_NAME) - OPTIONS.keys() - EVENTS - {"deadline"})
    found: list[Case] = []
    while len(found) < _LARGER:
        features = frozenset(drawn.sample(names, drawn.randint(4, 7)))
        if possible(features) and not features >= _TEXTLESS:
            found.append(Case(features).with_(*engine))
    return found
