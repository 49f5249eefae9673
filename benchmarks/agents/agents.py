"""The agents: where each comes from, how it is pointed at a gateway, and how it is run."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

KEY = "none"  # the gateway asks for none, and agents do not start without


class Agent(ABC):
    """One agent.

    package: Its npm package, ``version`` that which is tried.
    program: The name of its command.
    """

    name: str
    package: str
    version: str
    program: str

    @abstractmethod
    def call(self, file: Path) -> dict[str, Any]:
        """The call by which it reads ``file``."""

    @abstractmethod
    def configure(self, home: Path, url: str, model: str, limit: int) -> dict[str, str]:
        """Write its configuration below ``home``, the folder that it also works in; returns its environment.

        An answer is asked to have at most ``limit`` tokens, if the agent can ask for that.
        """

    @abstractmethod
    def arguments(self, prompt: str, model: str, *, goes_on: bool) -> list[str]:
        """The arguments of its command for one turn, which may go on with the last conversation."""


class ClaudeCode(Agent):
    name, package, version, program = "Claude Code", "@anthropic-ai/claude-code", "2.1.332", "claude"

    def call(self, file: Path) -> dict[str, Any]:
        return {"name": "Read", "arguments": {"file_path": str(file)}}

    def configure(self, home: Path, url: str, model: str, limit: int) -> dict[str, str]:
        return {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(limit),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # nothing but the gateway can be reached
        }

    def arguments(self, prompt: str, model: str, *, goes_on: bool) -> list[str]:
        return [*(["--continue"] if goes_on else []), "-p", prompt, "--model", model, "--output-format", "json"]


class Codex(Agent):
    name, package, version, program = "Codex", "@openai/codex", "0.171.0", "codex"

    def call(self, file: Path) -> dict[str, Any]:
        return {"name": "exec_command", "arguments": {"cmd": f"cat {file}"}}

    def configure(self, home: Path, url: str, model: str, limit: int) -> dict[str, str]:
        folder = home / ".codex"
        folder.mkdir()
        (folder / "config.toml").write_text(
            f'model = "{model}"\nmodel_provider = "mlx-sidecar"\n\n'
            f'[model_providers.mlx-sidecar]\nname = "mlx-sidecar"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
        )
        return {}

    def arguments(self, prompt: str, model: str, *, goes_on: bool) -> list[str]:
        return ["exec", "--skip-git-repo-check", *(["resume", "--last"] if goes_on else []), prompt]


class OpenCode(Agent):
    name, package, version, program = "opencode", "opencode-ai", "1.18.33", "opencode"

    def call(self, file: Path) -> dict[str, Any]:
        return {"name": "read", "arguments": {"filePath": str(file)}}

    def configure(self, home: Path, url: str, model: str, limit: int) -> dict[str, str]:
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
            "models": {model: {"limit": {"context": 200_000, "output": limit}}},
        }
        (home / "opencode.json").write_text(json.dumps({"provider": {"mlx-sidecar": provider}}))
        return {}

    def arguments(self, prompt: str, model: str, *, goes_on: bool) -> list[str]:
        return ["run", *(["--continue"] if goes_on else []), "--model", f"mlx-sidecar/{model}", prompt]


AGENTS: tuple[Agent, ...] = (ClaudeCode(), Codex(), OpenCode())
