"""Parameters of ``generate``: a prompt, and how a model is to continue it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from .adapters import AdapterName
from .model import (
    FirstFault,
    Label,
    ModelName,
    NullIs,
    OneError,
    Received,
    StreamId,
    TokenId,
    refuse_fields,
)
from .response_format import ResponseFormat, TextFormat
from .speculation import Speculation, SpeculationChoice
from .tools import NamedTool, ToolChoice, name_of

Output = Literal["parsed", "raw"]
Priority = Literal["critical", "high", "normal", "low"]
RenderedBy = Literal["turns", "template"]
ContextOverflow = Literal["refuse", "drop_oldest"]
FinishReason = Literal["stop", "tool_calls", "length", "cancelled", "deadline", "error", "repeated"]

TokenIds = Annotated[list[TokenId], FirstFault()]
TokenKey = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,9})$")]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=4096)]

SessionId = Label
TurnId = Label

EscapeSpecial = Annotated[
    bool, NullIs(False), Field(description="whether text of prompt and messages is kept from becoming control tokens")
]

_PROMPTS = ("prompt", "messages", "tokens")
_ONLY_WITH_MESSAGES = ("tools", "template_args")
_ONLY_WITH_PARSED = ("tool_format", "reasoning_budget")
_ONLY_WITH_STREAM = ("window", "min_interval_ms")
_ONLY_WITH_SESSION = ("at", "render")
_OF_SESSION = ("prompt", "tokens", "tools", "template_args")


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class TextPart(Received):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


Content = Annotated[
    str | list[TextPart] | None,
    OneError("message_content", "must be a string, null, or a list of parts with type text and a text"),
]


class Message(Received):
    """One message of a chat, as the model's template will see it.

    Members beyond those named here are passed to the template, which may know them.
    """

    model_config = ConfigDict(extra="allow")

    role: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="system, user, assistant, tool, developer, or another role of the template"
    )
    content: Content = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    def for_template(self) -> dict[str, Any]:
        """Exactly the members that the host sent."""
        return self.model_dump(exclude_unset=True)


class Prompted(Received):
    """A prompt for a model: exactly one of ``prompt``, ``messages`` and ``tokens``."""

    model: ModelName
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1), FirstFault()] | None = None
    tools: list[dict[str, Any]] | None = None
    template_args: dict[str, Any] | None = None
    tokens: Annotated[list[TokenId], Field(min_length=1), FirstFault()] | None = None

    @property
    def source(self) -> Literal["prompt", "messages", "tokens"]:
        """The name of the field that holds the prompt."""
        return "tokens" if self.tokens is not None else "messages" if self.messages is not None else "prompt"

    @property
    def escapes(self) -> bool:
        """Whether the prompt's text is to be kept from becoming control tokens."""
        # Subclasses declare the field last, because parameters by position keep their order.
        return bool(getattr(self, "escape_special", False))

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if faults := {**self._prompt_faults(), **self._company_faults()}:
            raise refuse_fields(type(self), "fields_disagree", faults)
        return self

    def _prompt_faults(self) -> dict[str, str]:
        given = [name for name in _PROMPTS if getattr(self, name) is not None]
        if not given:
            return {"prompt": "one of prompt, messages and tokens is needed"}
        return dict.fromkeys(given[1:], f"exactly one of prompt, messages and tokens: {given[0]} is there")

    def _company_faults(self) -> dict[str, str]:
        """Fields that would be ignored without the field they belong to."""
        faults = {}
        if self.messages is None:
            faults = dict.fromkeys(self._present(_ONLY_WITH_MESSAGES), "only goes with messages")
        if self.tokens is not None and self.escapes:
            faults["escape_special"] = "only goes with prompt or messages: tokens are fed as they are"
        return faults

    def _present(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(self, name) is not None]


class GenerateParams(Prompted):
    """Parameters of ``generate``: exactly one of ``prompt``, ``messages`` and ``tokens``, and how to continue it.

    With a ``session``, ``messages`` are those behind its turn ``at``, and model, tools and template_args are its own.
    Without ``temperature`` the answer is greedy. A parameter that the model, the backend or this version cannot honour
    is refused with ``unsupported_parameter``.
    """

    model: Annotated[ModelName, NullIs("")] = Field(
        default="", description="needed without session", json_schema_extra=_without_default
    )
    stream: StreamId | None = Field(default=None, description="turns deltas on, under this name")
    window: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="deltas sent beyond the last one acknowledged, before the stream pauses"
    )
    min_interval_ms: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="least time between two deltas"
    )
    echo_text: Annotated[bool, NullIs(True)] = Field(
        default=True, description="whether the result repeats text and tokens that were streamed"
    )

    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="without it: as many as the model's context leaves"
    )
    temperature: Annotated[float, Field(ge=0), NullIs(0.0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1), NullIs(1.0)] = 1.0
    top_k: Annotated[int, Field(ge=0), NullIs(0)] = Field(default=0, description="0: off")
    min_p: Annotated[float, Field(ge=0, le=1), NullIs(0.0)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0), NullIs(1.0)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2), NullIs(0.0)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2), NullIs(0.0)] = 0.0
    logit_bias: dict[TokenKey, float] | None = Field(
        default=None, description="token id to the number added to its logit"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        default=None, description="below 2^63; without it the sidecar picks one"
    )

    stop: Annotated[list[StopString], Field(max_length=16)] | None = Field(
        default=None, description="at most 16 strings; the text ends before the first that appears"
    )
    stop_tokens: Annotated[list[TokenId], Field(max_length=256), FirstFault()] | None = Field(
        default=None, description="at most 256; they end the text as the model's own end of turn does"
    )
    ignore_eos: Annotated[bool, NullIs(False)] = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="report log probabilities, with this many alternatives for each token"
    )

    priority: Annotated[Priority, NullIs("normal")] = "normal"
    deadline_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="seconds from the request's arrival, after which it ends with the text so far"
    )
    explain_cache: Annotated[bool, NullIs(False)] = Field(
        default=False, description="report where the prompt left the nearest cached one"
    )
    skip_special: Annotated[bool, NullIs(True)] = Field(
        default=True, description="whether special tokens are left out of the text"
    )
    escape_special: EscapeSpecial = False
    response_format: ResponseFormat | None = Field(
        default=None, description="the form that the answer must have; reasoning before it is free"
    )
    speculation: SpeculationChoice | None = Field(
        default=None, description="where proposals come from, which the model verifies; false: no proposals"
    )
    tool_choice: ToolChoice | None = Field(
        default=None,
        description="whether the answer calls a tool, and which; auto if there are tools",
    )
    parallel_tool_calls: Annotated[bool, NullIs(True)] = Field(default=True, description="false: one call at most")
    output: Output | None = Field(
        default=None,
        description="whether reasoning and tool calls are taken out of the text; parsed with messages, raw without",
    )
    tool_format: Label | None = Field(
        default=None, description="how the model writes calls, instead of what its chat template tells"
    )
    reasoning_budget: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="tokens of reasoning after which its end is forced"
    )
    repeat_guard: Annotated[int, Field(ge=3, le=4096)] | None = Field(
        default=None,
        description="end the answer when so many of its last tokens are a loop: the same third of them or less, again "
        "and again",
    )
    session: SessionId | None = Field(default=None, description="the chat that messages continue")
    at: TurnId | None = Field(default=None, description="the turn of the session to continue; by default the latest")
    render: RenderedBy | None = Field(
        default=None,
        description="turns (the default): the prompt is the tokens of the turns before, as they were computed, and the "
        "new messages; template: the whole chat as the model's template renders it",
    )
    context_overflow: Annotated[ContextOverflow, NullIs("refuse")] = Field(
        default="refuse",
        description="drop_oldest, with messages: the oldest turns behind the system messages are left out where the "
        "chat would not leave room for max_tokens, or else for a quarter of the context",
    )
    adapter: AdapterName | None = Field(
        default=None, description="one of the model's adapters, by its name, for this request alone"
    )

    def _company_faults(self) -> dict[str, str]:
        faults = super()._company_faults()
        faults |= self._session_faults()
        if self.ignore_eos and self.form is not None:
            faults["ignore_eos"] = "does not go with response_format: nothing may follow an answer that is whole"
        if self.session is None:
            faults |= self.tool_faults()
        if self.output == "parsed" and self.messages is None:
            faults["output"] = "parsed only goes with messages: other prompts are continued as they are"
        if not self.parses:
            faults |= dict.fromkeys(self._present(_ONLY_WITH_PARSED), "only goes with output parsed")
        if self.stream is None:
            faults |= dict.fromkeys(self._present(_ONLY_WITH_STREAM), "only goes with stream")
            if not self.echo_text:
                faults["echo_text"] = "false only goes with stream: the text would be lost"
        return faults

    def _session_faults(self) -> dict[str, str]:
        faults = dict[str, str]()
        if self.session is None:
            faults |= dict.fromkeys(self._present(_ONLY_WITH_SESSION), "only goes with session")
            if not self.model:
                faults["model"] = "is needed without session"
        else:
            faults |= dict.fromkeys(self._present(_OF_SESSION), "does not go with session, which has its own")
        if self.context_overflow != "refuse" and self.messages is None:
            faults["context_overflow"] = "drop_oldest only goes with messages"
        return faults

    def tool_faults(self) -> dict[str, str]:
        """Fields that do not fit ``tools``; to be asked for where these come from a session."""
        choice, faults = self.tool_choice, dict[str, str]()
        if choice is not None and self.tools is None:
            faults["tool_choice"] = "only goes with tools"
        elif isinstance(choice, NamedTool) and choice.name not in map(name_of, self.tools or ()):
            faults["tool_choice"] = f"there is no tool {choice.name!r}"
        elif choice == "required" and not self.tools:
            faults["tool_choice"] = "there is no tool"
        if choice not in (None, "auto", "none") and self.form is not None:
            both = "tool_choice and response_format: an answer that must call a tool has no other form"
            faults |= {"tool_choice": both, "response_format": both}
        if not self.parallel_tool_calls and self.tools is None:
            faults["parallel_tool_calls"] = "false only goes with tools"
        return faults

    @property
    def parses(self) -> bool:
        """Whether reasoning and tool calls are taken out of the text."""
        return self.messages is not None and self.output != "raw"

    @property
    def form(self) -> ResponseFormat | None:
        """``response_format``; None where it leaves the answer free."""
        return None if isinstance(self.response_format, TextFormat) else self.response_format

    @property
    def proposals(self) -> Speculation | None:
        """``speculation``; None where none is asked for."""
        return self.speculation if isinstance(self.speculation, Speculation) else None

    @property
    def token_bias(self) -> dict[int, float]:
        """``logit_bias`` by token id."""
        return {int(token): bias for token, bias in (self.logit_bias or {}).items()}
