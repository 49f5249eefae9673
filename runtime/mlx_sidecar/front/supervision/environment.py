"""What of the front's environment the engine gets. Pure: a mapping in, a mapping out."""

from __future__ import annotations

from collections.abc import Mapping

_FOR_PYTHON = ("PYTHON", "COVERAGE_")
_FOR_LIBRARIES = ("DYLD_", "OPENBLAS_", "OMP_", "MKL_", "VECLIB_", "TRANSFORMERS_")
_FOR_DEVICES = ("MLX_", "METAL_", "MTL_", "CUDA_", "NVIDIA_", "NCCL_")
_PREFIXES = ("LC_", "XDG_", *_FOR_PYTHON, *_FOR_LIBRARIES, *_FOR_DEVICES)
_NAMES = {
    *("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ"),
    *("LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("TOKENIZERS_PARALLELISM", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"),
}
# NVIDIA_API_KEY has a prefix that is let through, and is a secret all the same.
_SECRETS = {"TOKEN", "TOKENS", "KEY", "KEYS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"}


def environment(of: Mapping[str, str]) -> dict[str, str]:
    """What the engine needs of ``of`` to find Python, libraries, a device and a cache folder.

    Everything else stays out, above all what gives access to something: the engine runs code that models bring and
    never needs the network.
    """
    passed = {name: value for name, value in of.items() if _is_needed(name) and not _is_secret(name)}
    return {**passed, "PYTHONUNBUFFERED": "1"}


def _is_needed(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)


def _is_secret(name: str) -> bool:
    return not _SECRETS.isdisjoint(name.upper().split("_"))
