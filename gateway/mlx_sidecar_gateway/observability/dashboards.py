"""Grafana's dashboard and the rules of alerts: python -m mlx_sidecar_gateway.observability.dashboards [FOLDER]."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .alerts import rules
from .expressions import quantile, rate, value

_OVER = "$__rate_interval"
_MODEL = 'gen_ai_request_model=~"$model"'
_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
_OUTPUT_TOKEN = "gen_ai_server_time_per_output_token_seconds"
_DURATION = "gen_ai_server_request_duration_seconds"
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 8
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """A chart of lines. ``lines`` are expressions with their legends, ``unit`` is one of Grafana's."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    description: str = ""


def _quantiles(metric: str, by: str = "", matchers: str = _MODEL) -> tuple[tuple[str, str], ...]:
    label = f"{{{{{by}}}}} " if by else ""
    return tuple((quantile(share, metric, _OVER, matchers, by), f"{label}p{share * 100:g}") for share in (0.5, 0.95))


def _engine_quantiles(metric: str) -> tuple[tuple[str, str], ...]:
    return _quantiles(metric, matchers="")


ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            "Requests by operation", "reqps", ((rate("mlx_sidecar_requests", _OVER, by="operation"), "{{operation}}"),)
        ),
        Panel("Requests by outcome", "reqps", ((rate("mlx_sidecar_requests", _OVER, by="outcome"), "{{outcome}}"),)),
        Panel("Requests by key", "reqps", ((rate("mlx_sidecar_requests", _OVER, by="key"), "{{key}}"),)),
        Panel("Time to the first token", "s", _quantiles(_FIRST_TOKEN, "gen_ai_request_model")),
        Panel("Time of an output token", "s", _quantiles(_OUTPUT_TOKEN, "gen_ai_request_model")),
        Panel("Duration", "s", _quantiles(_DURATION, "gen_ai_request_model")),
        Panel(
            "Tokens a second",
            "short",
            ((rate("mlx_sidecar_tokens", _OVER, 'model=~"$model"', "type"), "{{type}}"),),
            "Counted at the end of each request.",
        ),
        Panel(
            "Longest gap of a stream", "s", _quantiles("mlx_sidecar_longest_gap_seconds", matchers='model=~"$model"')
        ),
        Panel(
            "Pings and retries",
            "reqps",
            ((rate("mlx_sidecar_pings", _OVER), "pings"), (rate("mlx_sidecar_retries", _OVER), "retries")),
        ),
    ),
    "Engine": (
        Panel(
            "Running and waiting",
            "short",
            (
                (value("queue_running"), "running"),
                (value("queue_waiting"), "waiting"),
                (value("engine_parked"), "parked"),
                (value("requests_running"), "at the gateway"),
            ),
        ),
        Panel("Time in the queue", "s", _engine_quantiles("mlx_sidecar_engine_queue_seconds")),
        Panel("Time between two tokens", "s", _engine_quantiles("mlx_sidecar_engine_gap_seconds")),
        Panel("Prefill", "s", _engine_quantiles("mlx_sidecar_engine_prefill_seconds")),
        Panel(
            "Tokens of the engine",
            "short",
            (
                (rate("engine_prefill_tokens", _OVER), "prefill"),
                (rate("engine_completion_tokens", _OVER), "decode"),
            ),
        ),
        Panel("Rows of a step", "short", _engine_quantiles("mlx_sidecar_engine_step_rows")),
        Panel("Device busy", "percentunit", ((rate("engine_device_seconds", _OVER), "busy"),)),
        Panel(
            "Preemptions and faults",
            "short",
            tuple(
                (rate(f"engine_{name}", _OVER), name.replace("_", " "))
                for name in ("preemptions", "interruptions", "errors", "poisoned", "restarts")
            ),
        ),
        Panel(
            "State",
            "short",
            (
                (value("up"), "up"),
                (value("ready"), "ready"),
                (value("engine_state", 'state="ready"'), "engine ready"),
            ),
        ),
    ),
    "Memory and cache": (
        Panel(
            "Memory by owner",
            "bytes",
            (
                (value("memory_bytes"), "{{owner}}"),
                (value("memory_free_bytes"), "free"),
                (value("memory_limit_bytes"), "limit"),
            ),
        ),
        Panel(
            "Memory pressure",
            "short",
            tuple(
                (rate(f"engine_{name}", _OVER), name.replace("_", " "))
                for name in ("parked_for_memory", "waits_for_memory", "refused_for_memory", "allocation_failures")
            ),
        ),
        Panel("Resident memory", "bytes", ((value("resident_bytes"), "{{process}}"),)),
        Panel(
            "Cached part of prompts",
            "percentunit",
            ((f"{rate('engine_cached_tokens', _OVER)} / {rate('engine_prompt_tokens', _OVER)}", "cached"),),
        ),
        Panel("Tokens from the cache", "short", ((rate("cache_hit_tokens", _OVER, by="tier"), "{{tier}}"),)),
        Panel("Prefix cache", "bytes", ((value("cache_bytes"), "{{tier}}"),)),
    ),
}


def dashboard() -> str:
    """The dashboard in JSON, as Grafana imports it."""
    made = {
        "uid": "mlx-sidecar",
        "title": "mlx-sidecar",
        "description": "Written by python -m mlx_sidecar_gateway.observability.dashboards",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["mlx-sidecar", "llm"],
        "templating": {"list": [_datasource_variable(), _model_variable()]},
        "panels": list(_panels()),
    }
    return json.dumps(made, indent=2) + "\n"


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        position = {"x": 0, "y": top, "w": _COLUMNS * _WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": position, "panels": []}
        top += 1
        for place, panel in enumerate(panels):
            number += 1
            row, column = divmod(place, _COLUMNS)
            yield _chart(panel, number, {"x": column * _WIDTH, "y": top + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT})
        top += -(-len(panels) // _COLUMNS) * _HEIGHT


def _chart(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _DATASOURCE, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(panel.lines)
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _model_variable() -> dict[str, Any]:
    query = f"label_values({_DURATION}_count, gen_ai_request_model)"
    return {
        "name": "model",
        "label": "Model",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def files() -> dict[str, str]:
    """The files by their name, with what stands in each."""
    return {"mlx-sidecar.json": dashboard(), "alerts.yml": rules()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mlx_sidecar_gateway.observability.dashboards", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("dashboards"), help="default: dashboards")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
