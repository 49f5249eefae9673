"""The prompt of a request in a session: tokens as they were computed, and what the new messages add to them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydantic_core import to_json

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import FinishReason, GenerateParams

from ...link.control_messages import ModelCard
from ...link.text_messages import TextWarning
from ..channels import REASONING
from ..sessions.dropping import without
from ..sessions.session import Session
from ..sessions.store import SessionStore, new_id
from ..sessions.turn import TOKEN_BYTES, Turn
from ..streams.text_stream import TextStream
from .generate_result import whole_calls
from .model_text import Chat, ModelText, Prompt
from .overflow import fitted, prompt_limit
from .prompt import AskedPrompt, checked

_ANSWER_TOKEN_BYTES = 12  # about, of a token and its text
_UNCLEAR = TextWarning(
    "turns_rendered",
    "the prompt is the template's rendering of the whole chat: its text behind the last answer could not be told apart",
)


class SessionPrompt(AskedPrompt):
    """A request that continues a turn of a session; its block keeps the session from expiring.

    ``params`` has the session's model, tools and template_args.
    """

    def __init__(self, store: SessionStore, asked: GenerateParams) -> None:
        """Raises UnknownSession, and InvalidParams for another model, an unknown turn and tools that are not there."""
        assert asked.session is not None
        self._store = store
        self._session = store.find(asked.session)
        self._parent = self._session.turn(asked.at, "at")
        super().__init__(_completed(asked, self._session))
        self._new = [message.for_template() for message in asked.messages or ()]
        self._messages = to_json(self._new)
        self._shared = 0  # tokens of the parent that the prompt begins with
        self._give_back: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        self._session.running += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._session.running -= 1
        self._store.touch(self._session)
        self._give_back()
        del self._session, self._parent  # turns count while they are referred to, and a request may lie in a cycle

    async def prompt(self, text: ModelText, card: ModelCard) -> Prompt:
        params, known = self.params, self._parent.prompt_and_answer()
        chat = [*self._parent.chat(), *self._new]
        prompt = await self._prompt(text, chat, known)
        limit = prompt_limit(card.context_length, params.max_tokens)
        if params.context_overflow == "drop_oldest" and len(prompt.tokens) > limit:
            prompt, self.dropped = await fitted(chat, limit, lambda left: text.chat_tokens(self._chat(left)))
            self.rendered_differs = False
        await checked(prompt, "messages", card.vocabulary)
        self._shared = _common(known, array("I", prompt.tokens))
        self._reserve(len(prompt.tokens) - self._shared, min(params.max_tokens or limit, card.context_length))
        return prompt

    async def _prompt(self, text: ModelText, chat: list[dict[str, Any]], known: array[int]) -> Prompt:
        parent = self._parent
        self.rendered_differs, self.dropped = False, 0
        if parent.answer is None or self.params.render == "template":
            return await text.chat_tokens(self._chat(chat))
        self.dropped = parent.dropped
        left = without(chat, parent.dropped)
        answered = len(left) - len(self._new) - 1
        answer = known[len(known) - parent.answered :]
        tail, whole = await text.turn(self._chat(left), answered, answer)
        if tail is None:
            return whole._replace(warnings=[*whole.warnings, _UNCLEAR])
        tokens = [*known, *tail]
        self.rendered_differs = tokens != whole.tokens
        return whole._replace(tokens=tokens)

    def _chat(self, messages: Sequence[Mapping[str, Any]]) -> Chat:
        params = self.params
        return Chat(messages, params.tools, True, params.template_args, params.escapes)

    def _reserve(self, new_tokens: int, answer_tokens: int) -> None:
        """Room for the turn that may come of it."""
        self._give_back()
        self._give_back = _nothing
        nbytes = (
            Turn("", messages=self._messages).nbytes + TOKEN_BYTES * new_tokens + _ANSWER_TOKEN_BYTES * answer_tokens
        )
        self._give_back = self._store.reserve(nbytes)

    def answered(self, stream: TextStream, reason: FinishReason) -> None:
        if not self._store.is_open(self._session):
            return
        tokens = stream.task.entry.prompt[self._shared :]
        emitted = stream.transcript.tokens
        tokens.extend(emitted)
        turn = Turn(
            new_id("turn"),
            self._parent,
            messages=self._messages,
            answer=to_json(answer_message(stream)),
            shared=self._shared,
            tokens=tokens,
            answered=len(emitted),
            dropped=self.dropped,
            finish_reason=reason,
        )
        if self._session.add(turn):
            self._store.counted(turn)
            self.turn = turn.id

    @property
    def explained_as(self) -> tuple[str, Chat]:
        """Only the tokens tell where they left those that are cached."""
        return "tokens", Chat(())


def answer_message(stream: TextStream) -> dict[str, Any]:
    """The answer as a message of the chat: its text, reasoning and whole calls."""
    message: dict[str, Any] = {"role": "assistant", "content": stream.transcript.text}
    if reasoning := stream.transcript.text_of(REASONING):
        message["reasoning_content"] = reasoning
    if calls := whole_calls(stream):
        functions = [(call.id, {"name": call.name, "arguments": call.arguments}) for call in calls]
        message["tool_calls"] = [{"id": id_, "type": "function", "function": function} for id_, function in functions]
    return message


def _completed(asked: GenerateParams, session: Session) -> GenerateParams:
    """``asked`` with what the session's turns have in common."""
    shared = session.shared
    if asked.model not in ("", shared.model):
        raise InvalidParams.field("model", f"the session is with {shared.model!r}", "other_model")
    common = {"model": shared.model, "tools": shared.tools, "template_args": shared.template_args}
    completed = asked.model_copy(update=common)
    if faults := completed.tool_faults():
        raise InvalidParams([{"loc": [name], "msg": why, "type": "fields_disagree"} for name, why in faults.items()])
    return completed


def _common(one: array[int], other: array[int]) -> int:
    """The number of tokens with which both begin."""
    if other[: len(one)] == one:
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _nothing() -> None:
    pass
