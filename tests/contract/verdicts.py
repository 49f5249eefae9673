"""Every frame that the sidecar writes, judged three times: by jsonschema, by the pydantic models, and by ajv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.model import Sent
from mlx_sidecar_protocol.operations import EmptyResult
from mlx_sidecar_protocol.registry import METHODS
from tests.support.frames import validator

from .model import result_of
from .streams import Json, demand

NODE = Path(__file__).parents[1] / "node"
ERRORS = {error.kind: error for error in DETAILS}
Case = tuple[str, Any]  # a definition of the bundle, and a value that should fit it


class Ajv:
    """A Node process with ajv, for many judgements."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, "validate.mjs"], cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def judge(self, cases: list[Case]) -> list[str | None]:
        """Return None for each valid case, else its fault."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(cases) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"validate.mjs ended with {self._process.wait()}"
        verdicts: list[str | None] = json.loads(line)
        return verdicts

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def why_no_ajv() -> str | None:
    """Return what is missing for ajv; None if nothing is."""
    if shutil.which("node") is None:
        return "Node is not installed"
    if not (NODE / "node_modules" / "ajv").is_dir():
        return "tests/node/node_modules is missing: npm ci --prefix tests/node"
    return None


@contextmanager
def ajv() -> Iterator[Ajv | None]:
    """Yield the judge in Node; outside CI None if it cannot be started."""
    if (missing := why_no_ajv()) is not None:
        assert "CI" not in os.environ, missing
        yield None
        return
    judge = Ajv(str(shutil.which("node")))
    try:
        yield judge
    finally:
        judge.close()


def check_all(heard: Iterable[tuple[Json, str]], judge: Ajv | None) -> None:
    """Raise Broken unless all judges find every message valid. Each comes with the method whose result it is."""
    # Equal messages are judged once, because small deltas are many and alike.
    unique = {json.dumps(message): (message, method) for message, method in heard}
    cases = [case for message, method in unique.values() for case in cases_of(message, method)]
    verdicts = {
        "jsonschema": [by_jsonschema(case) for case in cases],
        "pydantic": [by_pydantic(case) for case in cases],
        "ajv": judge.judge(cases) if judge else [None] * len(cases),
    }
    wrong = [
        f"{name} refuses as {definition}: {verdict} in {json.dumps(value)[:500]}"
        for name, found in verdicts.items()
        for (definition, value), verdict in zip(cases, found, strict=True)
        if verdict is not None
    ]
    demand(not wrong, "\n".join(wrong[:5]))


def cases_of(message: Json, method: str) -> list[Case]:
    """Return the frame of a message, and its content, each with the definition that it must fit."""
    if "method" in message:
        name = METHODS[message["method"]].params.__name__
        return [("ServerNotification", message), (name, message["params"])]
    if "error" in message:
        return [("ErrorResponse", message), (ERRORS[message["error"]["data"]["kind"]].__name__, message["error"])]
    return [("SuccessResponse", message), (result_of(method), message["result"])]


def by_jsonschema(case: Case) -> str | None:
    definition, value = case
    error = next(validator(definition).iter_errors(value), None)
    return None if error is None else f"{list(error.absolute_path)}: {error.message[:300]}"


def by_pydantic(case: Case) -> str | None:
    """Judge by pydantic, which has models for the content of frames only."""
    definition, value = case
    if definition in ("ServerNotification", "SuccessResponse", "ErrorResponse"):
        return None
    if definition in _errors_by_name():
        return _error_fault(definition, value)
    return _fault(_models_by_name()[definition], value)


def _error_fault(definition: str, value: Json) -> str | None:
    error, data = _errors_by_name()[definition], dict(value["data"])
    told = (value["code"], data.pop("kind"), data.pop("retryable"))
    if told != (error.code, error.kind, error.retryable) or value.keys() != {"code", "message", "data"}:
        return f"{told} is not {definition}"
    return _fault(DETAILS[error], data)


def _fault(model: type[Sent], value: Any) -> str | None:
    try:
        model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        return str(error)
    return None


@cache
def _errors_by_name() -> dict[str, Any]:
    return {error.__name__: error for error in DETAILS}


@cache
def _models_by_name() -> dict[str, type[Sent]]:
    models = [model for spec in METHODS.values() for model in (spec.params, spec.result)]
    return {model.__name__: model for model in [*models, EmptyResult] if model is not None and issubclass(model, Sent)}
