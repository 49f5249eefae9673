"""The tables of formats: the first one, one of whose signs stands in a chat template, is the model's.

The texts were read off what the families' own chat templates write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .tool_format import Bare, JsonArguments, JsonObject, Parameters, Pythonic, ReasoningFormat, ToolFormat

Mentions = Callable[[str], bool]

_XML_LINES: Final = Parameters("<parameter=", ">\n", "\n</parameter>", "\n")
_ARG_PAIRS: Final = Parameters("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>", "\n")
_DSML: Final = Parameters('<｜DSML｜parameter name="', '" string="{string}">', "</｜DSML｜parameter>", "\n", typed=True)
_DEEPSEEK: Final = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)

TOOL_FORMATS: Final = (
    ToolFormat(
        "harmony",
        signs=(("<|channel|>", "<|start|>assistant", "functions."),),
        body=JsonArguments(),
        open="<|start|>assistant<|channel|>commentary to=functions.",
        after_name=" <|constrain|>json<|message|>",
        close="<|call|>",
        parallel=False,
        tokens=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
        ends=("<|call|>", "<|return|>"),
        layout="harmony",
    ),
    ToolFormat(
        "minimax_m2",
        signs=(("<minimax:tool_call>",),),
        begin="<minimax:tool_call>\n",
        open='<invoke name="',
        after_name='">\n',
        body=Parameters('<parameter name="', '">', "</parameter>", "\n"),
        close="\n</invoke>",
        between="\n",
        end="\n</minimax:tool_call>",
        tokens=("<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    ToolFormat(
        "deepseek_v32",
        signs=(("DSML", "function_calls"),),
        begin="<｜DSML｜function_calls>\n",
        open='<｜DSML｜invoke name="',
        after_name='">\n',
        body=_DSML,
        close="\n</｜DSML｜invoke>",
        between="\n",
        end="\n</｜DSML｜function_calls>",
        tokens=("｜DSML｜",),
    ),
    ToolFormat(
        "deepseek_v4",
        signs=(("DSML", "tool_calls"),),
        begin="<｜DSML｜tool_calls>\n",
        open='<｜DSML｜invoke name="',
        after_name='">\n',
        body=_DSML,
        close="\n</｜DSML｜invoke>",
        between="\n",
        end="\n</｜DSML｜tool_calls>",
        tokens=("｜DSML｜",),
    ),
    ToolFormat(
        "deepseek_v3",  # and R1
        signs=(("<｜tool▁calls▁begin｜>", "```json"),),
        begin="<｜tool▁calls▁begin｜>",
        open="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        after_name="\n```json\n",
        body=JsonArguments(),
        close="\n```<｜tool▁call▁end｜>",
        between="\n",
        end="<｜tool▁calls▁end｜>",
        tokens=_DEEPSEEK,
    ),
    ToolFormat(
        "deepseek_v31",
        signs=(("<｜tool▁calls▁begin｜>",),),
        begin="<｜tool▁calls▁begin｜>",
        open="<｜tool▁call▁begin｜>",
        after_name="<｜tool▁sep｜>",
        body=JsonArguments(),
        close="<｜tool▁call▁end｜>",
        end="<｜tool▁calls▁end｜>",
        tokens=_DEEPSEEK,
    ),
    ToolFormat(
        "kimi_k2",
        signs=(("<|tool_calls_section_begin|>",),),
        begin="<|tool_calls_section_begin|>",
        open="<|tool_call_begin|>",
        after_name="<|tool_call_argument_begin|>",
        body=JsonArguments(indexed=True),
        close="<|tool_call_end|>",
        end="<|tool_calls_section_end|>",
        tokens=(
            "<|tool_calls_section_begin|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "<|tool_calls_section_end|>",
        ),
    ),
    ToolFormat(
        "gemma4",
        signs=(("<|tool_call>", "<tool_call|>"),),
        open="<|tool_call>call:",
        body=Bare('<|"|>'),
        close="<tool_call|>",
        tokens=("<|tool_call>", "<tool_call|>", '<|"|>'),
        ends=("<|tool_response>",),
    ),
    ToolFormat(
        "function_gemma",
        signs=(("<start_function_call>",),),
        open="<start_function_call>call:",
        body=Bare("<escape>"),
        close="<end_function_call>",
        tokens=("<start_function_call>", "<end_function_call>", "<escape>"),
        ends=("<start_function_response>",),
    ),
    ToolFormat(
        "longcat",
        signs=(("<longcat_tool_call>",),),
        open="<longcat_tool_call>",
        after_name="\n",
        body=Parameters("<longcat_arg_key>", "</longcat_arg_key>\n<longcat_arg_value>", "</longcat_arg_value>", "\n"),
        close="\n</longcat_tool_call>",
        between="\n",
        tokens=("<longcat_tool_call>", "</longcat_tool_call>"),
    ),
    ToolFormat(
        "hunyuan",
        signs=(("<tool_calls:opensource>",), ("<tool_calls{}>", ":opensource")),
        begin="<tool_calls:opensource>\n",
        open="<tool_call:opensource>",
        after_name="<tool_sep:opensource>\n",
        body=Parameters(
            "<arg_key:opensource>",
            "</arg_key:opensource>\n<arg_value:opensource>",
            "</arg_value:opensource>",
            "\n",
        ),
        close="\n</tool_call:opensource>",
        between="\n",
        end="\n</tool_calls:opensource>",
        tokens=(
            "<tool_calls:opensource>",
            "<tool_call:opensource>",
            "<tool_sep:opensource>",
            "<arg_key:opensource>",
            "</arg_key:opensource>",
            "<arg_value:opensource>",
            "</arg_value:opensource>",
            "</tool_call:opensource>",
            "</tool_calls:opensource>",
        ),
    ),
    ToolFormat(
        "glm",  # 4.5 to 4.7, and others that took it over
        signs=(("<arg_key>",),),
        open="<tool_call>",
        after_name="\n",
        body=_ARG_PAIRS,
        close="\n</tool_call>",
        between="\n",
        tokens=("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        ends=("<|observation|>",),
    ),
    ToolFormat(
        "seed_oss",
        signs=(("<seed:tool_call>",),),
        open="<seed:tool_call>\n<function=",
        after_name=">\n",
        body=Parameters("<parameter=", ">", "</parameter>", "\n"),
        close="\n</function>\n</seed:tool_call>",
        between="\n",
        tokens=("<seed:tool_call>", "</seed:tool_call>"),
    ),
    ToolFormat(
        "qwen3_coder",  # and Qwen 3.5, Nemotron 3, Step 3.5
        signs=(("<tool_call>", "<function=", "<parameter="),),
        open="<tool_call>\n<function=",
        after_name=">\n",
        body=_XML_LINES,
        close="\n</function>\n</tool_call>",
        between="\n",
        tokens=("<tool_call>", "</tool_call>"),
    ),
    ToolFormat(
        "minicpm5",
        signs=(('<function name="', '<param name="'),),
        open='<function name="',
        after_name='">',
        body=Parameters('<param name="', '">', "</param>", cdata=True),
        close="</function>",
        between="\n",
    ),
    ToolFormat(
        "functionary",
        signs=(("<function=", "</function>"),),
        open="<function=",
        after_name=">",
        body=JsonArguments(),
        close="</function>",
        ends=("<|eom_id|>",),
    ),
    ToolFormat(
        "mistral_v11",
        signs=(("[TOOL_CALLS]", "[CALL_ID]"),),
        open="[TOOL_CALLS]",
        before_id="[CALL_ID]",
        after_name="[ARGS]",
        body=JsonArguments(),
        tokens=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
    ),
    ToolFormat(
        "mistral_v13",
        signs=(("[TOOL_CALLS]", "[ARGS]"),),
        open="[TOOL_CALLS]",
        after_name="[ARGS]",
        body=JsonArguments(),
        tokens=("[TOOL_CALLS]", "[ARGS]"),
    ),
    ToolFormat(
        "mistral",  # up to v7
        signs=(("[TOOL_CALLS]",),),
        begin="[TOOL_CALLS][",
        body=JsonObject(id="id"),
        between=", ",
        end="]",
        tokens=("[TOOL_CALLS]",),
    ),
    ToolFormat(
        "cohere",  # Command R7B and A
        signs=(("<|START_ACTION|>",),),
        begin="<|START_ACTION|>[\n    ",
        body=JsonObject("tool_name", "parameters", "tool_call_id", id_first=True),
        between=",\n    ",
        end="\n]<|END_ACTION|>",
        tokens=("<|START_ACTION|>", "<|END_ACTION|>"),
    ),
    ToolFormat(
        "command_r",
        signs=(("Action:", "```json", "tool_name"),),
        begin="Action:\n```json\n[\n    ",
        body=JsonObject("tool_name", "parameters"),
        between=",\n    ",
        end="\n]\n```",
    ),
    ToolFormat(
        "nemotron",
        signs=(("<TOOLCALL>",),),
        begin="<TOOLCALL>[",
        body=JsonObject(),
        between=", ",
        end="]</TOOLCALL>",
        tokens=("<TOOLCALL>", "</TOOLCALL>"),
    ),
    ToolFormat(
        "apriel",
        signs=(("<tool_calls>[",), ("<tool_calls>", "Apriel")),
        begin="<tool_calls>[",
        body=JsonObject(id="id"),
        between=", ",
        end="]</tool_calls>",
        tokens=("<tool_calls>", "</tool_calls>"),
    ),
    ToolFormat(
        "minimax_m1",
        signs=(("<tool_calls>", "</tool_calls>"),),
        begin="<tool_calls>\n",
        body=JsonObject(),
        between="\n",
        end="\n</tool_calls>",
        tokens=("<tool_calls>", "</tool_calls>"),
    ),
    ToolFormat(
        "phi4",
        signs=(("<|tool_call|>", "<|/tool_call|>"),),
        begin="<|tool_call|>[",
        body=JsonObject(),
        between=", ",
        end="]<|/tool_call|>",
        tokens=("<|tool_call|>", "<|/tool_call|>"),
    ),
    ToolFormat(
        "granite3",
        signs=(("<|tool_call|>",),),
        begin="<|tool_call|>[",
        body=JsonObject(),
        between=", ",
        end="]",
        tokens=("<|tool_call|>",),
    ),
    ToolFormat(
        "lfm2",
        signs=(("<|tool_call_start|>",), ("<|tool_list_start|>",), ("List of tools: [",)),
        begin="<|tool_call_start|>[",
        body=Pythonic(),
        between=", ",
        end="]<|tool_call_end|>",
        tokens=("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    ToolFormat(
        "olmo3",
        signs=(("<function_calls>",),),
        begin="<function_calls>\n",
        body=Pythonic(),
        between="\n",
        end="\n</function_calls>",
        tokens=("<function_calls>", "</function_calls>"),
    ),
    ToolFormat(
        "apertus",
        signs=(("<|tools_prefix|>",),),
        begin="<|tools_prefix|>[",
        open='{"',
        after_name='": ',
        body=JsonArguments(),
        close="}",
        between=", ",
        end="]<|tools_suffix|>",
        tokens=("<|tools_prefix|>", "<|tools_suffix|>"),
    ),
    ToolFormat(
        "firefunction",
        signs=(("functools[",), ("functools",)),
        begin="functools[",
        body=JsonObject(),
        between=", ",
        end="]",
    ),
    ToolFormat(
        "hermes",  # Qwen 2.5 and 3, Hermes, Granite 4, SmolLM3, pocket
        signs=(("<tool_call>",), ("xml_tools",)),
        open="<tool_call>\n",
        body=JsonObject(),
        close="\n</tool_call>",
        between="\n",
        tokens=("<tool_call>", "</tool_call>"),
    ),
    ToolFormat(
        "llama4_pythonic",
        signs=(("<|python_start|>",),),
        announced=False,
        begin="[",
        body=Pythonic(),
        between=", ",
        end="]",
        prefix="<|python_start|>",
        suffix="<|python_end|>",
        tokens=("<|python_start|>", "<|python_end|>"),
        ends=("<|eom|>",),
    ),
    ToolFormat(
        "llama3_json",
        signs=(("<|python_tag|>",), ("ipython", '"parameters": ')),
        announced=False,
        body=JsonObject("name", "parameters"),
        between="; ",
        prefix="<|python_tag|>",
        tokens=("<|python_tag|>",),
        ends=("<|eom_id|>",),
    ),
)
"""In the order in which they are looked for: a sign that stands in the templates of two is last."""

REASONING_FORMATS: Final = (
    ReasoningFormat("<seed:think>", "</seed:think>"),
    ReasoningFormat("<longcat_think>", "</longcat_think>"),
    ReasoningFormat("<mm:think>", "</mm:think>"),
    ReasoningFormat("<think:opensource>", "</think:opensource>", other_signs=("</think{}>",)),
    ReasoningFormat("[THINK]", "[/THINK]"),
    ReasoningFormat("<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningFormat("<|channel>thought\n", "<channel|>", tokens=("<|channel>",)),
    ReasoningFormat("<think>", "</think>"),
)

UNSUPPORTED_SIGNS: Final = ("]<]minimax[>[",)
"""Texts in the templates of models whose calls are in no format of the table, although another one's sign is there."""

SIGNS: Final = tuple(
    sorted(
        {sign for each in TOOL_FORMATS for signs in each.signs for sign in signs}
        | {sign for each in REASONING_FORMATS for sign in each.signs}
        | set(UNSUPPORTED_SIGNS)
    )
)
"""The texts that are looked for in a model's chat templates."""


class OutputFormats(NamedTuple):
    """How a model writes tool calls and reasoning; None for what it does not write, as far as its templates tell."""

    tools: ToolFormat | None = None
    reasoning: ReasoningFormat | None = None


def formats_of(mentions: Mentions) -> OutputFormats:
    """The formats of a model whose chat templates have the texts that ``mentions`` confirms."""
    tools = (each for each in TOOL_FORMATS if any(all(map(mentions, signs)) for signs in each.signs))
    reasoning = (each for each in REASONING_FORMATS if any(map(mentions, each.signs)))
    return OutputFormats(None if any(map(mentions, UNSUPPORTED_SIGNS)) else next(tools, None), next(reasoning, None))


def tool_format(name: str) -> ToolFormat | None:
    """The tool format called ``name``; None if there is none."""
    return next((each for each in TOOL_FORMATS if each.name == name), None)
