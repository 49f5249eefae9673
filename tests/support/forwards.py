"""Which forward the sidecars of tests have: with ``MLX_SIDECAR_NATIVE=off`` none runs native code."""

from __future__ import annotations

import os

import pytest

NATIVE = os.environ.get("MLX_SIDECAR_NATIVE") != "off"
native_only = pytest.mark.skipif(not NATIVE, reason="this is about native code, which is switched off")
