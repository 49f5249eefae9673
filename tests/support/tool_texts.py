"""Tool calls as the models of each format write them, read off their templates, without the parser's table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Call = tuple[str, dict[str, Any]]
Render = Callable[[list[Call]], str]


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> str:
    """A value between markers: strings as they are, all else JSON."""
    return value if isinstance(value, str) else dumps(value)


def _jinja(value: Any) -> str:
    """A value as templates write it that do not ask for JSON: constants of Python outside of objects and lists."""
    return dumps(value) if isinstance(value, dict | list) else str(value)


def _objects(name: str, arguments: str, calls: list[Call], separator: str) -> str:
    return separator.join(dumps({name: called, arguments: given}) for called, given in calls)


def _each(write: Callable[[str, dict[str, Any]], str], separator: str = "") -> Render:
    return lambda calls: separator.join(write(*call) for call in calls)


def _hermes(name: str, given: dict[str, Any]) -> str:
    return f"<tool_call>\n{dumps({'name': name, 'arguments': given})}\n</tool_call>"


def _qwen3_coder(name: str, given: dict[str, Any]) -> str:
    lines = [f"<parameter={key}>\n{_jinja(value)}\n</parameter>\n" for key, value in given.items()]
    return f"<tool_call>\n<function={name}>\n{''.join(lines)}</function>\n</tool_call>"


def _seed_oss(name: str, given: dict[str, Any]) -> str:
    lines = [f"<parameter={key}>{_jinja(value)}</parameter>\n" for key, value in given.items()]
    return f"<seed:tool_call>\n<function={name}>\n{''.join(lines)}</function>\n</seed:tool_call>"


def _minicpm5(name: str, given: dict[str, Any]) -> str:
    def value(of: Any) -> str:
        wrapped = isinstance(of, str) and any(character in of for character in "<&\n")
        return f"<![CDATA[{of}]]>" if wrapped else _jinja(of)

    params = "".join(f'<param name="{key}">{value(of)}</param>' for key, of in given.items())
    return f'<function name="{name}">{params}</function>'


def _glm(name: str, given: dict[str, Any]) -> str:
    pairs = [f"<arg_key>{key}</arg_key>\n<arg_value>{_plain(value)}</arg_value>\n" for key, value in given.items()]
    return f"<tool_call>{name}\n{''.join(pairs)}</tool_call>"


def _glm_in_one_line(name: str, given: dict[str, Any]) -> str:
    pairs = [f"<arg_key>{key}</arg_key><arg_value>{_plain(value)}</arg_value>" for key, value in given.items()]
    return f"<tool_call>{name}{''.join(pairs)}</tool_call>"


def _longcat(name: str, given: dict[str, Any]) -> str:
    pairs = [
        f"<longcat_arg_key>{key}</longcat_arg_key>\n<longcat_arg_value>{_plain(value)}</longcat_arg_value>\n"
        for key, value in given.items()
    ]
    return f"<longcat_tool_call>{name}\n{''.join(pairs)}</longcat_tool_call>"


def _hunyuan(name: str, given: dict[str, Any]) -> str:
    pairs = [
        f"<arg_key:opensource>{key}</arg_key:opensource>\n"
        f"<arg_value:opensource>{_plain(value)}</arg_value:opensource>\n"
        for key, value in given.items()
    ]
    return f"<tool_call:opensource>{name}<tool_sep:opensource>\n{''.join(pairs)}</tool_call:opensource>\n"


def _invokes(tag: str, begin: str, end: str, flagged: bool = False) -> Render:
    def write(name: str, given: dict[str, Any]) -> str:
        lines = ""
        for key, value in given.items():
            flag = f' string="{dumps(isinstance(value, str))}"' if flagged else ""
            lines += f'<{tag}parameter name="{key}"{flag}>{_plain(value)}</{tag}parameter>\n'
        return f'<{tag}invoke name="{name}">\n{lines}</{tag}invoke>\n'

    return lambda calls: begin + "\n" + "".join(write(*call) for call in calls) + end


def _python(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key!r}: {_python(of)}" for key, of in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_python, value)) + "]"
        case _:
            return repr(value)


def _called(name: str, given: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_python(value)}' for key, value in given.items())})"


def _bare(value: Any, quote: str) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{key}:{_bare(of, quote)}" for key, of in value.items()) + "}"
        case list():
            return "[" + ",".join(_bare(of, quote) for of in value) + "]"
        case str():
            return quote + value + quote
        case _:
            return dumps(value)


def _gemma(begin: str, quote: str, end: str) -> Render:
    return _each(lambda name, given: f"{begin}call:{name}{_bare(given, quote)}{end}")


def _kimi(calls: list[Call]) -> str:
    each = "".join(
        f"<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>{dumps(given)}<|tool_call_end|>"
        for index, (name, given) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{each}<|tool_calls_section_end|>"


def _deepseek_v3(calls: list[Call]) -> str:
    each = "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{dumps(given)}\n```<｜tool▁call▁end｜>"
        for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{each}<｜tool▁calls▁end｜>"


def _deepseek_v31(calls: list[Call]) -> str:
    each = "".join(
        f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{dumps(given)}<｜tool▁call▁end｜>" for name, given in calls
    )
    return f"<｜tool▁calls▁begin｜>{each}<｜tool▁calls▁end｜>"


def _with_ids(calls: list[Call]) -> str:
    return ", ".join(
        dumps({"name": name, "arguments": given, "id": f"abcdefgh{index}"}) for index, (name, given) in enumerate(calls)
    )


def _cohere(calls: list[Call]) -> str:
    lines = ",\n".join(
        "    " + dumps({"tool_call_id": str(index), "tool_name": name, "parameters": given})
        for index, (name, given) in enumerate(calls)
    )
    return f"<|START_ACTION|>[\n{lines}\n]<|END_ACTION|>"


def _command_r(calls: list[Call]) -> str:
    lines = ",\n".join(
        json.dumps({"tool_name": name, "parameters": given}, indent=4, ensure_ascii=False) for name, given in calls
    )
    return f"Action:\n```json\n[\n{lines}\n]\n```"


def _harmony(calls: list[Call]) -> str:
    """The first call in both orders of the header that models write; the prompt has ``<|start|>assistant``."""
    texts = [
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{dumps(given)}"
        if index % 2 == 0
        else f" to=functions.{name}<|channel|>commentary json<|message|>{dumps(given)}"
        for index, (name, given) in enumerate(calls)
    ]
    return "<|call|><|start|>assistant".join(texts) + "<|call|>"


RENDERERS: Mapping[str, Render] = {
    "harmony": _harmony,
    "minimax_m2": _invokes("", "<minimax:tool_call>", "</minimax:tool_call>"),
    "deepseek_v32": _invokes("｜DSML｜", "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", flagged=True),
    "deepseek_v4": _invokes("｜DSML｜", "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", flagged=True),
    "deepseek_v3": _deepseek_v3,
    "deepseek_v31": _deepseek_v31,
    "kimi_k2": _kimi,
    "gemma4": _gemma("<|tool_call>", '<|"|>', "<tool_call|>"),
    "function_gemma": _gemma("<start_function_call>", "<escape>", "<end_function_call>"),
    "longcat": _each(_longcat, "\n"),
    "hunyuan": lambda calls: f"<tool_calls:opensource>\n{_each(_hunyuan)(calls)}</tool_calls:opensource>",
    "glm": _each(_glm, "\n"),
    "glm in one line": _each(_glm_in_one_line),
    "seed_oss": _each(_seed_oss, "\n"),
    "qwen3_coder": _each(_qwen3_coder, "\n"),
    "minicpm5": _each(_minicpm5, "\n"),
    "functionary": _each(lambda name, given: f"<function={name}>{dumps(given)}</function>"),
    "mistral_v11": lambda calls: "".join(
        f"[TOOL_CALLS]{name}[CALL_ID]abcdefgh{index}[ARGS]{dumps(given)}" for index, (name, given) in enumerate(calls)
    ),
    "mistral_v13": _each(lambda name, given: f"[TOOL_CALLS]{name}[ARGS]{dumps(given)}"),
    "mistral": lambda calls: f"[TOOL_CALLS][{_with_ids(calls)}]",
    "cohere": _cohere,
    "command_r": _command_r,
    "nemotron": lambda calls: f"<TOOLCALL>[{_objects('name', 'arguments', calls, ', ')}]</TOOLCALL>",
    "apriel": lambda calls: f"<tool_calls>[{_with_ids(calls)}]</tool_calls>",
    "minimax_m1": lambda calls: f"<tool_calls>\n{_objects('name', 'arguments', calls, chr(10))}\n</tool_calls>",
    "phi4": lambda calls: f"<|tool_call|>[{_objects('name', 'arguments', calls, ', ')}]<|/tool_call|>",
    "granite3": lambda calls: f"<|tool_call|>[{_objects('name', 'arguments', calls, ', ')}]",
    "lfm2": lambda calls: f"<|tool_call_start|>[{_each(_called, ', ')(calls)}]<|tool_call_end|>",
    "olmo3": lambda calls: f"<function_calls>\n{_each(_called, chr(10))(calls)}\n</function_calls>",
    "apertus": lambda calls: (
        f"<|tools_prefix|>[{', '.join(dumps({name: given}) for name, given in calls)}]<|tools_suffix|>"
    ),
    "firefunction": lambda calls: f"functools[{_objects('name', 'arguments', calls, ', ')}]",
    "hermes": _each(_hermes, "\n"),
    "llama4_pythonic": lambda calls: f"[{_each(_called, ', ')(calls)}]",
    "llama4_pythonic, marked": lambda calls: f"<|python_start|>[{_each(_called, ', ')(calls)}]<|python_end|>",
    "llama3_json": lambda calls: _objects("name", "parameters", calls, "; "),
    "llama3_json, marked": lambda calls: f"<|python_tag|>{_objects('name', 'parameters', calls, '; ')}",
}
"""By the name of the format, and for some a way of writing behind it."""


def format_name(renderer: str) -> str:
    """The name of the format that ``renderer`` of ``RENDERERS`` writes."""
    return renderer.split(" ")[0].rstrip(",")


def reasoning(renderer: str, text: str) -> str:
    """Reasoning before an answer of ``renderer``, between ``<think>`` and ``</think>`` where the format has no own."""
    if renderer == "harmony":
        return f"<|channel|>analysis<|message|>{text}<|end|><|start|>assistant"
    return f"<think>{text}</think>\n\n"
