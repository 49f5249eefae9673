"""The server of a text process answers the front's requests about texts, one after the other."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from mlx_sidecar_protocol.errors import InternalError, InvalidParams, ModelUnsupported, RpcError

from ..link.codec import encode
from ..link.faults import fault_of
from ..link.text_messages import (
    CompileTemplates,
    Constrain,
    Constrained,
    Decode,
    Decoded,
    Encode,
    Encoded,
    EncodedTexts,
    EncodeTexts,
    Explained,
    ExplainMiss,
    Inspected,
    InspectWeights,
    ModelFolder,
    ModelRead,
    ReadModel,
    RenderChat,
    RenderedChat,
    RenderedTurn,
    RenderTurn,
    TemplatesCompiled,
    TextRefused,
    TextReply,
    TextWarning,
    ToText,
)
from ..link.text_work import ANSWER_LIMIT_BYTES, READ_S, processor_bound_s
from ..link.token_table import packed, unpacked
from .templates import Rendered
from .tokenizer import TextModel

MODELS = 8  # kept; a tokenizer with a vocabulary of 128,000 takes tens of megabytes and a third of a second to read

log = logging.getLogger(__name__)


class TextServer:
    """Answers requests, and keeps the models it read only for speed.

    ``allow`` is called with the seconds of processor time that the next step may use. ``trust_remote_code``: run the
    code that comes with tokenizers.
    """

    def __init__(self, allow: Callable[[float], None], *, trust_remote_code: bool = False) -> None:
        self._allow = allow
        self._trust_remote_code = trust_remote_code
        self._models: OrderedDict[ModelFolder, TextModel] = OrderedDict()

    def answer(self, message: ToText) -> TextReply | TextRefused:
        """The answer to ``message``, or a refusal; no exception that a model's files cause gets further."""
        try:
            return self._answer(message)
        except RpcError as error:
            return TextRefused(message.op, fault_of(error))
        # A panic of the tokenizers library is a BaseException, and code of a model may raise SystemExit.
        except BaseException as failed:
            self._models.pop(message.folder, None)  # its objects may be half changed
            if isinstance(failed, MemoryError) and self._models:  # other models hold memory: once more without them
                self._models.clear()
                return self.answer(message)
            told = (
                _told_of_form(failed, message.folder.name)
                if isinstance(message, Constrain)
                else _told(failed, message.folder.name)
            )
            if isinstance(told, InternalError):
                log.exception("%s: %s failed", message.folder.name, type(message).__name__)
            return TextRefused(message.op, fault_of(told))

    def _answer(self, message: ToText) -> TextReply:
        match message:
            case ReadModel():
                return self._read(message)
            case InspectWeights():
                return self._inspect(message)
            case CompileTemplates():
                return self._compile(message)
            case Encode():
                return self._encode(message)
            case EncodeTexts():
                return self._encode_texts(message)
            case Decode():
                return self._decode(message)
            case RenderChat():
                return self._render(message)
            case RenderTurn():
                return self._render_turn(message)
            case ExplainMiss():
                return self._explain(message)
            case Constrain():
                return self._constrain(message)

    def _model(self, message: ToText) -> TextModel:
        """The model that ``message`` is about, read if need be; then allows the time for ``message`` itself."""
        folder = message.folder
        model = self._models.get(folder)
        if model is None:
            self._allow(READ_S)
            model = TextModel.load(Path(folder.path), folder.name, trust_remote_code=self._trust_remote_code)
            self._models[folder] = model
        self._models.move_to_end(folder)
        while len(self._models) > MODELS:
            self._models.popitem(last=False)
        self._allow(processor_bound_s(message))
        return model

    def _read(self, message: ReadModel) -> ModelRead:
        model = self._model(message)
        return ModelRead(
            message.op,
            vocabulary=model.vocabulary,
            context_length=model.context_length,
            eos_tokens=sorted(model.eos_tokens),
            has_chat_template=model.has_chat_template,
            table=model.table(),
            mentions=[sign for sign in message.signs if model.mentions(sign)],
        )

    def _inspect(self, message: InspectWeights) -> Inspected:
        from ..checkpoint.model_directory import inspect  # only loads need it

        self._allow(READ_S)
        found = inspect(message.folder.name, message.folder.path, trust_remote_code=self._trust_remote_code)
        return Inspected(
            message.op,
            architecture=str(found.config["model_type"]),
            parameters=found.parameters,
            dtype=found.stored_dtype,
            quantization=found.quantization.words if found.quantization else "",
            context_length=found.context_length,
        )

    def _compile(self, message: CompileTemplates) -> TemplatesCompiled:
        self._model(message).compile_templates()
        return TemplatesCompiled(message.op)

    def _encode(self, message: Encode) -> Encoded:
        model = self._model(message)
        tokens = model.encode_prompt(message.text, message.add_special, message.escape)
        return Encoded(message.op, packed(tokens), model.pieces(tokens) if message.pieces else None)

    def _encode_texts(self, message: EncodeTexts) -> EncodedTexts:
        pieces = list(self._model(message).encode_texts(message.texts, message.before, message.limit, message.ends))
        return EncodedTexts(
            message.op,
            tokens=[packed(piece.tokens) for piece in pieces],
            seconds=[piece.second for piece in pieces],
            cut=[number for number, piece in enumerate(pieces) if piece.cut],
        )

    def _decode(self, message: Decode) -> Decoded:
        model = self._model(message)
        # Some decoders panic on an empty list.
        texts = [model.decode(unpacked(run), message.skip_special) if run else "" for run in message.runs]
        return Decoded(message.op, texts)

    def _render(self, message: RenderChat) -> RenderedChat:
        model = self._model(message)
        rendered, tokens = model.chat(**json.loads(message.chat))
        text = rendered.text if message.want_text else None
        return RenderedChat(message.op, packed(tokens), text, _warnings(rendered))

    def _render_turn(self, message: RenderTurn) -> RenderedTurn:
        model = self._model(message)
        chat = json.loads(message.chat)
        rendered, whole = model.chat(**chat)
        tail = model.behind_answer(rendered.text, message.answered, unpacked(message.answer), **chat)
        return RenderedTurn(message.op, None if tail is None else packed(tail), packed(whole), _warnings(rendered))

    def _explain(self, message: ExplainMiss) -> Explained:
        from .cache_miss import Given, explain  # imports the contract's models, which only this request needs

        model, given = self._model(message), Given(**json.loads(message.given))
        told = explain(model, given, unpacked(message.tokens), message.nearest, message.uncacheable)
        return Explained(message.op, told.to_json_bytes())

    def _constrain(self, message: Constrain) -> Constrained:
        from .forms.deep_stack import on_deep_stack  # few requests need it
        from .forms.grammars import grammar_of

        self._allow(processor_bound_s(message))
        return Constrained(message.op, on_deep_stack(grammar_of, message.form, message.before))


def _warnings(rendered: Rendered) -> list[TextWarning]:
    return [TextWarning(each.kind, each.message) for each in rendered.warnings]


def frame_of(answer: TextReply | TextRefused, name: str) -> bytes:
    """``answer`` as a frame; a refusal naming the model ``name`` if MessagePack cannot hold a value of it."""
    try:
        frame = encode(answer)
    except (OverflowError, UnicodeEncodeError) as wrong:  # a number of more than 64 bits, a lone surrogate
        return _refusal(answer.op, name, f"what it says cannot be handed on: {str(wrong)[:200]}")
    if len(frame) > ANSWER_LIMIT_BYTES:
        return _refusal(answer.op, name, f"its answer has {len(frame)} bytes, the limit is {ANSWER_LIMIT_BYTES}")
    return frame


def _refusal(op: int, name: str, because: str) -> bytes:
    return encode(TextRefused(op, fault_of(ModelUnsupported(name, because))))


def _told_of_form(failed: BaseException, field: str) -> RpcError:
    """The error for the host: the form is to blame if llguidance panicked, or a limit was met."""
    if isinstance(failed, MemoryError | RecursionError) or type(failed).__name__ == "PanicException":
        return InvalidParams.field(field, f"it cannot be compiled: {type(failed).__name__}")
    return InternalError()


def _told(failed: BaseException, name: str) -> RpcError:
    """The error for the host: the reason if the model's files are to blame, else InternalError without details."""
    # Only the tokenizers library raises bare Exception, for any fault of a tokenizer.
    if type(failed) is Exception or type(failed).__name__ == "PanicException":
        return ModelUnsupported(name, because=f"the tokenizers library failed: {str(failed)[:200]}")
    if isinstance(failed, MemoryError | RecursionError | SystemExit):
        return ModelUnsupported(name, because=f"its text cannot be processed: {type(failed).__name__}")
    return InternalError()
