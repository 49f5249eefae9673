"""Which forward the sidecars of tests have: with ``MLX_SIDECAR_NATIVE=off`` none runs native code."""

from __future__ import annotations

import os

import pytest

native_only = pytest.mark.skipif(
    os.environ.get("MLX_SIDECAR_NATIVE") == "off", reason="this is about native code, which is switched off"
)
