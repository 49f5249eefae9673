"""The tools of a conversation: public functions of a Python file, which a model may call."""

from __future__ import annotations

import inspect
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from mlx_sidecar_protocol.functions import Tool, content_of, content_of_failure

from ..failures import USAGE, Refused

_MODULE = "chat_tools"


def tools_of(path: Path) -> dict[str, Tool]:
    """The public functions that the file defines, by name. Running it may do anything, as any program.

    Raises ``Refused`` for a file that fails or defines none, and for a function that no model can call.
    """
    found = vars(_run(path)).items()
    functions = {
        name: value
        for name, value in found
        if inspect.isfunction(value) and value.__module__ == _MODULE and not name.startswith("_")
    }
    if not functions:
        raise Refused(f"--tools {path}: it defines no public function", USAGE)
    try:
        return {name: _tool(name, function) for name, function in functions.items()}
    except TypeError as error:
        raise Refused(f"--tools {path}: {error}", USAGE) from error


def _tool(name: str, function: FunctionType) -> Tool:
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} is async, and chat has no event loop")
    return Tool(function, name=name)


def _run(path: Path) -> ModuleType:
    spec = spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise Refused(f"--tools {path}: the name does not end in .py", USAGE)
    module = sys.modules[_MODULE] = module_from_spec(spec)  # where dataclasses of the file look for their types
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        raise Refused(f"--tools {path}: {error.strerror or error}", USAGE) from error
    except Exception as error:
        raise Refused(f"--tools {path}: {type(error).__name__}: {error}", USAGE) from error
    return module


def result_of(tools: dict[str, Tool], call: dict[str, Any]) -> str:
    """Run a call; returns the content that the model is told, which says so where the call failed."""
    try:
        if (tool := tools.get(call["name"])) is None:
            raise LookupError(f"there is no tool {call['name']!r}; there are: {', '.join(tools)}")
        return content_of(tool.function(**tool.bind(call["arguments"])))
    except Exception as error:  # noqa: BLE001  # shown, and told to the model
        return content_of_failure(error)
