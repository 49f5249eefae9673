"""Sums, short reasoning, and answers in JSON."""

from __future__ import annotations

import json
from random import Random

from . import facts
from .chat import Chat, Probe, exchange, turn
from .talk import CITIES, NAMES, made_up
from .vary import expand, typed

_CAPITALS, _COLOURS, _OPPOSITES = (facts.entries(name) for name in ("capitals", "colours", "opposites"))


def held_out_pair(left: int, right: int) -> bool:
    """Whether this two-digit sum is kept for the score: one pair in twelve."""
    low, high = sorted((left, right))
    return low > 9 and (low * 131 + high * 17) % 12 == 0


def operands(rng: Random) -> tuple[int, int]:
    """Two numbers to add, most of them with two digits, never a held-out pair."""
    while True:
        top = rng.choice((10, 10, 10, 100, 100))
        pair = rng.randrange(top), rng.randrange(rng.choice((10, top)))
        if not held_out_pair(*pair):
            return pair if rng.random() < 0.5 else (pair[1], pair[0])


def question_of_sum(left: int, right: int, rng: Random) -> str:
    """A way to ask for `left + right`."""
    asked = rng.choice(
        (
            "what is {} + {}",
            "what is {} plus {}",
            "{} + {}",
            "{}+{}",
            "add {} and {}",
            "{} plus {}",
            "how much is {} + {}",
            "how much is {} and {}",
            "calculate {} + {}",
            "what's {} + {}",
            "the sum of {} and {}",
            "compute {} + {}",
        )
    )
    return (
        typed(asked.format(left, right), rng)
        if rng.random() < 0.5
        else asked.format(left, right) + rng.choice(("", "?", " ="))
    )


def arithmetic(rng: Random) -> Chat:
    """A sum, a difference that is not negative, or a product of the small table."""
    kind = rng.random()
    left, right = operands(rng)
    if kind < 0.75:
        return Chat(exchange(question_of_sum(left, right, rng), f"{left} + {right} = {left + right}."))
    if kind < 0.87:
        high, low = sorted((rng.randrange(21), rng.randrange(11)), reverse=True)
        asked = rng.choice(
            ("what is {} - {}", "what is {} minus {}", "{} - {}", "{} minus {}", "how much is {} - {}")
        ).format(high, low)
        return Chat(exchange(typed(asked, rng), f"{high} - {low} = {high - low}."))
    left, right = rng.randrange(11), rng.randrange(11)
    asked = rng.choice(
        (
            "what is {} times {}",
            "what is {} * {}",
            "{} * {}",
            "{} times {}",
            "multiply {} by {}",
            "how much is {} times {}",
        )
    ).format(left, right)
    return Chat(exchange(typed(asked, rng), f"{left} * {right} = {left * right}."))


def sum_lines(rng: Random) -> str:
    """Lines of sums, as plain text: many sums for few tokens."""
    pairs = (operands(rng) for _ in range(rng.randrange(4, 12)))
    return "\n".join(f"{left} + {right} = {left + right}." for left, right in pairs)


def reasoning_of_sum(left: int, right: int) -> str:
    """Column addition in words, ones first."""
    ones = left % 10 + right % 10
    carry = ones // 10
    tens = left // 10 + right // 10 + carry
    last = f"{left // 10} + {right // 10} + {carry} = {tens}"
    return f"Ones: {left % 10} + {right % 10} = {ones}, write {ones % 10}, carry {carry}. Tens: {last}. So {tens if tens else ''}{ones % 10}."


def thinking(rng: Random) -> Chat:
    """Short reasoning, asked for with `/think` or with the template's `enable_thinking`."""
    left, right = operands(rng)
    if rng.random() < 0.75:
        question, thought, answer = (
            question_of_sum(left, right, rng),
            reasoning_of_sum(left, right),
            f"{left} + {right} = {left + right}.",
        )
    elif rng.random() < 0.5:
        country = rng.choice(list(_CAPITALS))
        question, thought = (
            typed(f"what is the capital of {country}", rng),
            f"The question is about {country}. Its capital is {_CAPITALS[country]}.",
        )
        answer = f"The capital of {country} is {_CAPITALS[country]}."
    else:
        word = rng.choice(list(_OPPOSITES))
        question, thought = (
            typed(f"what is the opposite of {word}", rng),
            f"The word is {word}. Its opposite is {_OPPOSITES[word]}.",
        )
        answer = f"The opposite of {word} is {_OPPOSITES[word]}."
    reply = {"role": "assistant", "content": answer, "reasoning_content": thought}
    if rng.random() < 0.5:
        return Chat((turn("user", question + " /think"), reply))
    return Chat((turn("user", question), reply), thinking=True)


def json_answer(rng: Random) -> Chat:
    """A question to be answered with JSON and nothing else."""
    question, value = rng.choice((_fact_json, _person_json, _extract_json, _sum_json, _colour_json, _list_json))(rng)
    return Chat(exchange(question, json.dumps(value, ensure_ascii=False)))


def _asked(question: str, rng: Random) -> str:
    """`question` with a demand for JSON before or after it."""
    before = expand(
        "(Answer in JSON:|Answer with JSON:|Reply in JSON:|In JSON:|Respond in JSON:|JSON only:|Answer as JSON:)", rng
    )
    after = expand(
        "(Answer in JSON.|Reply with JSON.|As JSON.|JSON only.|Please answer in JSON.|Answer with a JSON object.)", rng
    )
    return f"{before} {typed(question, rng)}" if rng.random() < 0.6 else f"{typed(question, rng)} {after}"


def _fact_json(rng: Random) -> tuple[str, object]:
    country = rng.choice(list(_CAPITALS))
    if rng.random() < 0.4:
        asked = expand(
            f"(Return|Give me|Write|Make) (a JSON object|JSON) with (the keys |)country and capital for {country}.", rng
        )
        return asked, {"country": country, "capital": _CAPITALS[country]}
    return _asked(expand(f"(what is the capital of|name the capital of|capital of) {country}", rng), rng), {
        "answer": _CAPITALS[country]
    }


def _colour_json(rng: Random) -> tuple[str, object]:
    thing = rng.choice(list(_COLOURS))
    return _asked(expand(f"what (colour|color) is {thing}", rng), rng), {"answer": _COLOURS[thing]}


def _sum_json(rng: Random) -> tuple[str, object]:
    left, right = rng.randrange(10), rng.randrange(10)
    return _asked(expand(f"(what is|how much is|) {left} + {right}", rng).strip(), rng), {"answer": left + right}


def _person(rng: Random) -> tuple[str, int, str]:
    return rng.choice(NAMES) if rng.random() < 0.5 else made_up(rng), rng.randrange(10, 99), rng.choice(CITIES)


def _person_json(rng: Random) -> tuple[str, object]:
    name, age, _ = _person(rng)
    asked = expand(
        f"(Write|Make|Give me|Return|Create) (a JSON object|JSON) (for|about) {name}, (age |){age}(| years old).", rng
    )
    return asked, {"name": name, "age": age}


def _extract_json(rng: Random) -> tuple[str, object]:
    name, age, city = _person(rng)
    if rng.random() < 0.5:
        return expand(
            f"(Extract|Get|Find) (the |)name and (the |)city as JSON: {name} (lives in|comes from|is from|works in) {city}.",
            rng,
        ), {"name": name, "city": city}
    return expand(f"(Extract|Get|Find) (the |)name and (the |)age as JSON: {name} is {age} years old.", rng), {
        "name": name,
        "age": age,
    }


def _list_json(rng: Random) -> tuple[str, object]:
    names = rng.sample(NAMES, rng.randrange(2, 5))
    return expand(
        f"(Write|Make|Return|Give me) (a JSON array|a JSON list) of (these names|the names|these|): {', '.join(names)}",
        rng,
    ).replace(" of :", ":"), names


def probes() -> list[Probe]:
    """Held-out sums and JSON tasks."""
    rng = Random(7)
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100) if held_out_pair(a, b)]
    found = []
    for left, right in rng.sample(pairs, 24):
        ask = turn("user", f"What is {left} + {right}?")
        found.append(Probe("sums", Chat((ask,)), exact=f"{left} + {right} = {left + right}."))
    for left, right in rng.sample(pairs, 24):
        ask = turn("user", f"What is {left} + {right}? /think")
        found.append(Probe("thinking", Chat((ask,)), expect=("</think>", f"\n{left} + {right} = {left + right}.")))
    found += [Probe("json", Chat((turn("user", asked),)), exact=answer) for asked, answer in HELD_JSON]
    return found


HELD_JSON = (
    ("Please answer in JSON: which city is the capital of France?", '{"answer": "Paris"}'),
    ("What is the capital of Spain? I want JSON.", '{"answer": "Madrid"}'),
    ("Answer in JSON: what do you get for 3 + 4?", '{"answer": 7}'),
    ("Extract the name and city as JSON: Velda lives in Porto.", '{"name": "Velda", "city": "Porto"}'),
    ("Extract the name and age as JSON: Torim is 47 years old.", '{"name": "Torim", "age": 47}'),
    ("Create a JSON object for Kasra, age 31.", '{"name": "Kasra", "age": 31}'),
    ("Return a JSON object with country and capital for Japan, please.", '{"country": "Japan", "capital": "Tokyo"}'),
    ("Return a JSON array of these names: Ada, Emil, Zoe", '["Ada", "Emil", "Zoe"]'),
)
