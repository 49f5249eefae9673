"""The library is used only where its version and the layout of its structures are those that are known."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from mlx_sidecar.engine.grammar import library as module
from mlx_sidecar.engine.grammar.library import MatcherInit, Unavailable, library, unavailable


class Other:
    """A library of another version, or of another layout."""

    def __init__(self, version: bytes, fill: Callable[[Any, int], None]) -> None:
        self.llg_get_version = lambda: version
        self.llg_constraint_init_set_defaults = fill


def _longer(space: Any, tokenizer: int) -> None:
    library().llg_constraint_init_set_defaults(space, tokenizer)
    space[ctypes.sizeof(MatcherInit) + 8] = 1


def _shifted(space: Any, tokenizer: int) -> None:
    library().llg_constraint_init_set_defaults(ctypes.byref(space, 8), tokenizer)


def test_the_library_that_is_installed_can_be_used() -> None:
    assert unavailable() == ""
    module._check_layout(library())


@pytest.mark.parametrize("fill", [_longer, _shifted])
def test_another_layout_is_refused_by_name(fill: Callable[[Any, int], None]) -> None:
    with pytest.raises(Unavailable, match=r"llguidance@1\.9\.7.*layout"):
        module._check_layout(Other(b"llguidance@1.9.7 x", fill))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [b"llguidance@1.8.0 derivre@1", b"llguidance@2.0.0 derivre@1", b"something else"])
def test_another_version_is_refused_by_name(version: bytes) -> None:
    with pytest.raises(
        Unavailable, match="llguidance from 1.9 on and before 2.0 is needed; this is " + version.decode()
    ):
        module._check_version(version)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match="not installed"):
        module._path()
