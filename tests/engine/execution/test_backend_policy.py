"""A backend is given the right arithmetic, and makes no promise that it cannot keep."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_sidecar.engine.execution import backend_policy as policy
from mlx_sidecar.engine.execution import blas
from mlx_sidecar_protocol.errors import UnsupportedParameter


def test_on_a_cpu_weights_are_computed_in_float32_unless_a_load_says_otherwise() -> None:
    settled = policy.Policy("cpu", "a cpu", "some blas", "float32", "fast", 1)
    assert settled.words == "some blas, float32"
    assert settled.words_for("bfloat16") == "some blas, bfloat16"
    assert policy.Policy("metal", "a gpu", "metal", None, "fast", 1).words == "metal, as stored"


@pytest.mark.parametrize("backend", ["metal", "cuda"])
def test_exact_numerics_are_refused_where_they_cannot_be_promised(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(blas, "preload", lambda numerics: blas.BlasPolicy("some blas", bit_stable=True))
    monkeypatch.setattr(policy, "_backend", lambda mx: backend)
    with pytest.raises(UnsupportedParameter, match=f"numerics cannot be honoured: on {backend}"):
        policy.settle("exact")


def test_exact_numerics_are_refused_with_a_blas_that_is_not_bit_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "preload", lambda numerics: blas.BlasPolicy("another blas"))
    monkeypatch.setattr(policy, "_backend", lambda mx: "cpu")
    with pytest.raises(UnsupportedParameter, match="another blas"):
        policy.settle("exact")


@pytest.mark.parametrize("name", ["threads", "activations", "kv_cache_dtype"])
def test_what_native_code_alone_can_do_is_refused_without_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(blas, "preload", lambda numerics: blas.BlasPolicy("some blas"))
    options: dict[str, Any] = {"threads": 2, "activations": "int8", "kv_cache_dtype": "float16"}
    with pytest.raises(UnsupportedParameter, match=f"{name} cannot be honoured: on cpu no native code computes"):
        policy.settle("fast", native="off", **{name: options[name]})


def test_how_keys_and_values_are_kept_is_told() -> None:
    kept = policy.NativePolicy("avx2", "exact", 1, "float16")
    assert kept.words == "native avx2 kernels, weights as stored, sums in float32, keys and values in float16"


def test_a_blas_that_does_not_load_is_a_typed_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(numerics: str) -> blas.BlasPolicy:
        raise blas.BlasLoadError("the BLAS shim does not load: libgone.so")

    monkeypatch.setattr(blas, "preload", broken)
    with pytest.raises(UnsupportedParameter, match=r"libgone\.so"):
        policy.settle("fast")
