"""Finds the text, the error and the tokens in answers of every surface, in their events and whole."""

from __future__ import annotations

from typing import Any


def text_in(answer: Any) -> str:
    """The answer's text in one JSON object; empty if it has none, as the start and the end of a stream."""
    match answer:
        # OpenAI's chat completions, streamed and whole, and completions.
        case {"choices": [{"delta": {"content": str(text)}}, *_]} | {
            "choices": [{"message": {"content": str(text)}}, *_]
        }:
            return text
        case {"choices": [{"text": str(text)}, *_]}:
            return text
        # OpenAI's responses.
        case {"type": "response.output_text.delta", "delta": str(text)}:
            return text
        case {"object": "response", "output": [*items]}:
            return "".join(map(_parts, items))
        # Anthropic's messages.
        case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
            return text
        case {"type": "message", "content": [*_]}:
            return _parts(answer)
        # Ollama's chat and generate.
        case {"message": {"content": str(text)}} | {"response": str(text)}:
            return text
        case _:
            return ""


def error_in(answer: Any) -> str | None:
    """The message of the error that an object tells, if it tells one."""
    match answer:
        case {"error": {"message": str(message)}} | {"error": str(message)}:
            return message
        case {"response": {"error": {"message": str(message)}}}:
            return message
        case {"type": "error", "message": str(message)}:
            return message
        case _:
            return None


def tokens_in(answer: Any) -> int | None:
    """The tokens of the answer, if an object tells them."""
    match answer:
        case {"usage": {"completion_tokens": int(count)}} | {"usage": {"output_tokens": int(count)}}:
            return count
        case {"response": {"usage": {"output_tokens": int(count)}}} | {"eval_count": int(count)}:
            return count
        case _:
            return None


def _parts(message: Any) -> str:
    match message:
        case {"content": [*parts]}:
            return "".join(map(_part, parts))
        case _:
            return ""


def _part(part: Any) -> str:
    match part:
        case {"text": str(text)}:
            return text
        case _:
            return ""
