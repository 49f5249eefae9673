"""The text side of a model gives the front its figures and tokens, and asks the text process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from mlx_sidecar_protocol.errors import InvalidParams, RpcError, UnsupportedParameter
from mlx_sidecar_protocol.generate_result import CacheExplanation

from ...link.messages import Nearest
from ...link.text_messages import (
    CompileTemplates,
    Decode,
    Decoded,
    Encode,
    Encoded,
    EncodedTexts,
    EncodeTexts,
    Explained,
    ExplainMiss,
    ModelFolder,
    ModelRead,
    ReadModel,
    RenderChat,
    RenderedChat,
    RenderedTurn,
    RenderTurn,
    TemplatesCompiled,
    TextWarning,
)
from ...link.token_table import TokenTable, packed, unpacked
from ..output.detokenizer import Detokenizer, Detokenizers
from ..output.formats.table import SIGNS, OutputFormats, formats_of
from ..output.late_text import LateText
from ..output.special_stops import SpecialStops, special_stops
from ..output.token_texts import TokenTexts
from ..output.vocabulary_bytes import VocabularyBytes, vocabulary_bytes
from ..output.window import Window
from ..supervision.text_pool import TextPool

log = logging.getLogger(__name__)

# Token ids are 32 bits wide in the tokenizers library.
_TOKEN_LIMIT = 2**32
# Decoded here, where the table tells how, because that takes less than asking another process.
_SHORT_TOKENS = 256


class Chat(NamedTuple):
    """The input of a chat template; each message as the host sent it.

    ``escape``: nothing of messages, tools and variables becomes a control token.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool = True
    template_args: Mapping[str, Any] | None = None
    escape: bool = False


class Prompt(NamedTuple):
    """A prompt as tokens, and warnings of parts that the chat template left out."""

    tokens: list[int]
    warnings: Sequence[TextWarning] = ()


class Rendered(NamedTuple):
    """A prompt as tokens, packed (32 bits each), as text, and warnings as of ``Prompt``; it may be of any length."""

    tokens: memoryview
    text: str
    warnings: Sequence[TextWarning] = ()


class ModelText(Protocol):
    """Text in, tokens out and back, for one model directory.

    ``vocabulary`` is the number of token ids the model knows; ``eos_tokens`` end a turn. ``token_texts`` maps any token
    to its own text. ``formats``: how it writes tool calls and reasoning. Methods that need a model's files raise
    ModelUnsupported where these cannot be processed.
    """

    @property
    def vocabulary(self) -> int: ...
    @property
    def eos_tokens(self) -> frozenset[int]: ...
    @property
    def token_texts(self) -> Mapping[int, str]: ...
    @property
    def table(self) -> TokenTable: ...
    @property
    def formats(self) -> OutputFormats: ...

    def vocabulary_bytes(self) -> VocabularyBytes | None:
        """The bytes of all tokens, worked out once, by any thread; None where only the tokenizer can tell them."""
        ...

    def compile_templates(self) -> asyncio.Future[None]:
        """Have the chat templates compiled once; the future is done when that has ended, and never fails.

        To be awaited under a shield. A template that cannot be compiled is an error of the chats that need it.
        """
        ...

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        """Tokens of a prompt. ``add_special``: with those that the tokenizer adds around a text, but no second BOS.

        Special tokens written out in ``text`` become those tokens; with ``escape`` no control token comes of it. Raises
        UnsupportedParameter naming ``escape_special`` where the tokenizer does not allow that.
        """
        ...

    async def tokenize(
        self, text: str, add_special: bool, escape: bool, *, pieces: bool
    ) -> tuple[memoryview, list[str] | None]:
        """``encode``, the numbers packed (32 bits each), for texts of any length.

        ``pieces``: and the vocabulary's own string for each token (``Ġhello``, ``<0x0A>``); empty if it has none.
        """
        ...

    async def encode_texts(
        self, texts: Sequence[str], *, before: str | None = None, limit: int = 0, ends: bool = False
    ) -> EncodedTexts:
        """Packed tokens of each of ``texts``, or of the pairs that ``before`` makes with them; see ``EncodeTexts``.

        Raises ContextTooLong naming ``query`` where it leaves nothing of a document, UnsupportedParameter naming
        ``model`` where its tokenizer makes no pairs.
        """
        ...

    async def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        """Text of ``tokens``; ids that stand for nothing give nothing.

        Raises InvalidParams naming ``tokens`` for a number that is no token id at all.
        """
        ...

    async def chat_tokens(self, chat: Chat) -> Prompt:
        """A chat under the model's template, as tokens alone.

        Raises InvalidParams naming ``messages`` or ``template_args`` if the template cannot make text of them,
        UnsupportedParameter naming ``messages`` if the model has no template for it.
        """
        ...

    async def render(self, chat: Chat) -> Rendered:
        """``chat_tokens``, and the text with special tokens written out."""
        ...

    async def turn(self, chat: Chat, answered: int, answer: Sequence[int]) -> tuple[list[int] | None, Prompt]:
        """How ``chat`` goes on behind its message number ``answered``, which was computed as the tokens ``answer``.

        Also the whole chat as ``chat_tokens`` gives it. None where the template's text cannot be told from the
        answer's own.
        """
        ...

    async def explain(
        self, source: str, chat: Chat, tokens: Sequence[int], nearest: Nearest | None, uncacheable: str
    ) -> CacheExplanation:
        """Where a prompt of ``tokens`` left the ``nearest`` known one; ``chat`` is empty unless it came as one."""
        ...

    def detokenizer(
        self, skip_special: bool = True, behind: Sequence[int] = (), shown: frozenset[str] = frozenset()
    ) -> Detokenizer | LateText:
        """A new incremental detokenizer for one stream; its pieces joined equal ``decode(tokens, skip_special)``.

        With ``behind``, the tokens that are continued: the text that ``tokens`` add to that of these. Special tokens
        whose text is in ``shown`` are not left out.
        """
        ...

    def special_stops(
        self,
        stops: Sequence[str],
        stop_tokens: Collection[int],
        skip_special: bool = True,
        shown: frozenset[str] = frozenset(),
    ) -> SpecialStops | None:
        """The search for those of ``stops`` that name special tokens that the host is not sent; None if none does.

        Not sent are those that are left out of the text, as of ``detokenizer``, and those among ``stop_tokens``, which
        end the text.
        """
        ...


class TableText:
    """The part of a ``ModelText`` that needs only the table of the model's tokens."""

    def __init__(self, table: TokenTable, eos_tokens: frozenset[int]) -> None:
        self.table = table
        self.eos_tokens = eos_tokens
        self.token_texts = TokenTexts(table)
        self.detokenizers = Detokenizers(table)

    def vocabulary_bytes(self) -> VocabularyBytes | None:
        return self._vocabulary_bytes

    @cached_property
    def _vocabulary_bytes(self) -> VocabularyBytes | None:
        return vocabulary_bytes(self.table)

    def special_stops(
        self,
        stops: Sequence[str],
        stop_tokens: Collection[int],
        skip_special: bool = True,
        shown: frozenset[str] = frozenset(),
    ) -> SpecialStops | None:
        if not stops:
            return None
        special, hidden = self.detokenizers.special_texts, self.detokenizers.hidden(skip_special, shown)
        texts = {token: text for token, text in special.items() if token in hidden}
        ending = (self.table.special | self.eos_tokens).intersection(stop_tokens)
        return special_stops(stops, texts | {token: self.table.token(token) or "" for token in ending})


class FolderText(TableText):
    """The ``ModelText`` of a model directory; only text processes open its files."""

    def __init__(self, pool: TextPool, folder: ModelFolder, read: ModelRead) -> None:
        super().__init__(read.table, frozenset(read.eos_tokens))
        self._pool = pool
        self._folder = folder
        self._has_chat_template = read.has_chat_template
        self._compiling: asyncio.Future[None] | None = None
        self.vocabulary = read.vocabulary
        self.context_length = read.context_length
        self.formats = formats_of(frozenset(read.mentions).__contains__)

    @classmethod
    async def read(cls, pool: TextPool, folder: ModelFolder) -> FolderText:
        """Have the files of ``folder`` read.

        Raises ModelLoadFailed for files that are missing, broken or beyond their limits, ModelUnsupported for those
        that cannot be processed or need code that may not be run.
        """
        return cls(pool, folder, await pool.ask(lambda op: ReadModel(op, folder, list(SIGNS)), ModelRead))

    def compile_templates(self) -> asyncio.Future[None]:
        if self._compiling is None:
            self._compiling = asyncio.ensure_future(self._compile_templates())
        return self._compiling

    async def _compile_templates(self) -> None:
        if not self._has_chat_template:
            return
        try:
            await self._pool.ask(lambda op: CompileTemplates(op, self._folder), TemplatesCompiled)
        except RpcError as error:  # raised anew for the chat that needs it, where there is one
            log.info("%s: its chat templates are not compiled yet: %s", self._folder.name, error)

    async def encode(self, text: str, add_special: bool = True, escape: bool = False) -> list[int]:
        return unpacked((await self._encoded(text, add_special, escape, pieces=False)).tokens)

    async def tokenize(
        self, text: str, add_special: bool, escape: bool, *, pieces: bool
    ) -> tuple[memoryview, list[str] | None]:
        encoded = await self._encoded(text, add_special, escape, pieces=pieces)
        return memoryview(encoded.tokens).cast("I"), encoded.pieces

    async def _encoded(self, text: str, add_special: bool, escape: bool, *, pieces: bool) -> Encoded:
        return await self._pool.ask(lambda op: Encode(op, self._folder, text, add_special, escape, pieces), Encoded)

    async def encode_texts(
        self, texts: Sequence[str], *, before: str | None = None, limit: int = 0, ends: bool = False
    ) -> EncodedTexts:
        given = list(texts)
        return await self._pool.ask(lambda op: EncodeTexts(op, self._folder, given, before, limit, ends), EncodedTexts)

    async def decode(self, tokens: Sequence[int], skip_special: bool = False) -> str:
        for token in tokens:
            if not 0 <= token < _TOKEN_LIMIT:
                raise InvalidParams.field("tokens", f"{token} is not a token id")
        here = self.detokenizers.new(skip_special) if len(tokens) <= _SHORT_TOKENS else None
        if here is not None:
            return here.push_many(tokens) + here.finish()
        return (await self._decode([tokens], skip_special=skip_special))[0]

    async def chat_tokens(self, chat: Chat) -> Prompt:
        told = await self._rendered(chat, want_text=False)
        return Prompt(unpacked(told.tokens), told.warnings)

    async def render(self, chat: Chat) -> Rendered:
        told = await self._rendered(chat, want_text=True)
        return Rendered(memoryview(told.tokens).cast("I"), told.text or "", told.warnings)

    async def turn(self, chat: Chat, answered: int, answer: Sequence[int]) -> tuple[list[int] | None, Prompt]:
        given, computed = to_json(chat._asdict()), packed(answer)
        told = await self._pool.ask(lambda op: RenderTurn(op, self._folder, given, answered, computed), RenderedTurn)
        tail = None if told.tail is None else unpacked(told.tail)
        return tail, Prompt(unpacked(told.whole), told.warnings)

    async def _rendered(self, chat: Chat, *, want_text: bool) -> RenderedChat:
        if not self._has_chat_template:
            raise UnsupportedParameter("messages", because="the model has no chat template")
        given = to_json(chat._asdict())
        return await self._pool.ask(lambda op: RenderChat(op, self._folder, given, want_text), RenderedChat)

    async def explain(
        self, source: str, chat: Chat, tokens: Sequence[int], nearest: Nearest | None, uncacheable: str
    ) -> CacheExplanation:
        given = to_json(
            {
                "source": source,
                "messages": chat.messages,
                "tools": chat.tools,
                "template_args": chat.template_args,
            }
        )
        prompt = packed(tokens)
        explained = await self._pool.ask(
            lambda op: ExplainMiss(op, self._folder, given, prompt, nearest, uncacheable), Explained
        )
        return CacheExplanation.model_validate_json(explained.explanation)

    def detokenizer(
        self, skip_special: bool = True, behind: Sequence[int] = (), shown: frozenset[str] = frozenset()
    ) -> Detokenizer | LateText:
        if (made := self.detokenizers.new(skip_special, behind, shown)) is not None:
            return made
        hidden = self.detokenizers.hidden(skip_special, shown)
        return LateText(partial(self._decode_visible, hidden), Window(self.table, hidden, behind))

    async def _decode_visible(self, hidden: frozenset[int], runs: Sequence[Sequence[int]]) -> list[str]:
        visible = [[token for token in run if token not in hidden] for run in runs]
        return await self._decode(visible, skip_special=False)

    async def _decode(self, runs: Sequence[Sequence[int]], *, skip_special: bool) -> list[str]:
        if not any(runs):
            return ["" for _ in runs]
        sent = [packed(run) for run in runs]
        return (await self._pool.ask(lambda op: Decode(op, self._folder, sent, skip_special), Decoded)).texts
