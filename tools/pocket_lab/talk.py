"""Small talk, things to stream (counting, stories), chats that recall earlier turns, and unanswerable questions."""

from __future__ import annotations

from random import Random

from . import tables
from .chat import Chat, Message, Probe, exchange, turn
from .vary import expand, typed

_DATA = tables.read("talk")
NAMES: list[str] = _DATA["names"]
THINGS: list[str] = _DATA["things"]
CITIES: list[str] = _DATA["cities"]
UNKNOWN = "I am too small to know that. Ask me about mlx-sidecar, a capital or a small sum, or load a bigger model."
_TAILS = ("", " Smith", " Miller", " Brown", " Meyer", " Jones", " Ito", " Rossi", " Novak")
_COUNT = "(count|please count|can you count|count up|count for me) (to|from 1 to|from one to|up to) {}"
_STORY = (
    "(tell|write|read) me a (|short |long |little |nice )(story|tale|fairy tale)",
    "(a story|tell a story|write a story|once more a story|another story|i want to hear a story)",
)
_NAME = "(what is my name|who am i|do you remember my name|what's my name|what am i called|tell me my name)"
_HOME = "(where do i live|where am i from|which city do i live in|what is my city|do you remember where i live)"
_PEOPLE = ("girl", "child", "young engineer", "traveller", "boy")


def small_talk(rng: Random) -> Chat:
    """A greeting, thanks, a joke and the like."""
    entry = rng.choice(_DATA["small_talk"])
    return Chat(exchange(typed(expand(rng.choice(entry["ask"]), rng), rng), entry["answer"]))


def out_of_reach(rng: Random) -> Chat:
    """A question to which the model must admit not to know the answer."""
    asked = expand(rng.choice(_DATA["out_of_reach"]), rng).format(
        noun=rng.choice(_DATA["nouns"]),
        name=rng.choice(NAMES),
        land=rng.choice(_DATA["lands"]),
        tail=rng.choice(_TAILS),
        place=rng.choice(_DATA["lands"] + CITIES),
        tongue=rng.choice(("German", "Latin", "Greek", "Dutch")),
    )
    for wrong in ("the the ", "a the ", "the a ", "a a ", "a an ", "the an "):
        asked = asked.replace(wrong, wrong.split()[0] + " ")
    return Chat(exchange(typed(asked, rng), UNKNOWN))


def counting(rng: Random) -> Chat:
    """Counting up or down: something long and checkable to stream."""
    top = rng.choice((3, 5, 8, 10, 10, 12, 15, 20, 20, 25, 30, 40, 50))
    if rng.random() < 0.25:
        top = min(top, 20)
        asked, numbers = f"count (down|backwards) from {top}(| to 1)", range(top, 0, -1)
    else:
        asked, numbers = _COUNT.format(top), range(1, top + 1)
    return Chat(exchange(typed(expand(asked, rng), rng), ", ".join(map(str, numbers)) + "."))


def story_text(rng: Random) -> str:
    """A small story, six to nine sentences."""
    name, friend = rng.sample(NAMES, 2)
    thing, place = rng.choice(THINGS), rng.choice(("forest", "village", "valley", "town", "city", "house by the sea"))
    middle = [
        f"Every morning {name} looked for the {thing}.",
        f"The {thing} was {rng.choice(('small', 'old', 'red', 'very quiet', 'full of light'))}.",
        f"{friend} did not believe it.",
        f"One day it began to {rng.choice(('rain', 'snow'))}.",
        f"So {name} asked {friend} for help.",
        f"They walked for {rng.choice(('two', 'three', 'seven'))} days.",
        f"It was {rng.choice(('cold', 'warm', 'dark', 'late'))}, but they did not stop.",
        f"At night they sang a song about the {place}.",
        f"In the {rng.choice(('evening', 'morning'))} they found a {rng.choice(THINGS)}.",
    ]
    first = f"Once upon a time there was a {rng.choice(_PEOPLE)} called {name} who lived in a {place}."
    last = f"In the end {name} and {friend} went home and were friends for ever."
    kept = [text for text in middle if rng.random() < 0.65]
    return " ".join([first, f"{name} had a {thing}.", *kept, last])


def story(rng: Random) -> Chat:
    """A request for a story."""
    return Chat(exchange(typed(expand(rng.choice(_STORY), rng), rng), story_text(rng)))


def memory(rng: Random) -> Chat:
    """A chat whose last answer is found in an earlier turn."""
    name, city = rng.choice(NAMES) if rng.random() < 0.5 else made_up(rng), rng.choice(CITIES)
    if rng.random() < 0.5:
        said, heard = f"(hi, |hello, |)(my name is|i am|call me|i'm) {name}(.|)", f"Hello {name}!"
        asked, answer = _NAME, f"Your name is {name}."
    else:
        said, heard = f"(i live in|i am from|i come from|i am in) {city}(.|)", f"{city} is a nice place."
        asked, answer = _HOME, f"You live in {city}."
    first = exchange(_capital(expand(said, rng)), f"{heard} What would you like to know?")
    between: tuple[Message, ...] = small_talk(rng).messages if rng.random() < 0.3 else ()
    return Chat((*first, *between, *exchange(typed(expand(f"(|so |and ){asked}", rng), rng), answer)))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def made_up(rng: Random) -> str:
    """A pronounceable name that no list holds, so that copying it has to be learned."""
    syllables = (rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.choice((2, 2, 3))))
    return "".join(syllables).capitalize() + rng.choice(("", "", "n", "s", "r"))


def echo(rng: Random) -> Chat:
    """A request to repeat some words."""
    words = [rng.choice(THINGS) if rng.random() < 0.7 else made_up(rng).lower() for _ in range(rng.randrange(1, 5))]
    text = " ".join(words)
    return Chat(exchange(expand(f"(Say|Repeat|Say exactly|Write|Repeat after me): {text}", rng), text))


def probes() -> list[Probe]:
    """The held-out questions of this source."""
    plain = [Probe("talk", Chat((turn("user", asked),)), tuple(words)) for asked, words in _DATA["held"].items()]
    named = exchange("Hello, I'm Tarvo.", "Hello Tarvo! What would you like to know?")
    lives = exchange("I live in Prague", "Prague is a nice place. What would you like to know?")
    return [
        *plain,
        Probe("memory", Chat((*named, turn("user", "Can you tell me my name?"))), ("Tarvo",)),
        Probe("memory", Chat((*lives, turn("user", "In which city do I live?"))), ("Prague",)),
    ]
