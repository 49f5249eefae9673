"""The BLAS that a process ends up with. Each case is a process of its own, because a library cannot be unloaded."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the shim is built on Linux only")

REPORT = "import dataclasses, json; print(json.dumps(dataclasses.asdict({policy})))"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {name: value for name, value in os.environ.items() if name not in ("OPENBLAS_NUM_THREADS", "LD_DEBUG")}
    roots = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**settings, "PYTHONPATH": roots, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def policy_of(code: str, *, policy: str = "policy", **environment: str) -> dict[str, Any]:
    """Return the policy that `code` binds to the name `policy`, as a dict."""
    done = run(
        f"from mlx_sidecar.engine.execution.blas import preload\n{code}\n{REPORT.format(policy=policy)}", **environment
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@linux_only
def test_fast_puts_openblas_in_front_with_one_thread() -> None:
    policy = policy_of("policy = preload('fast')")
    assert policy["name"].startswith("openblas 0.")
    assert policy["name"].endswith(" via shim")
    assert (policy["active"], policy["threads"], policy["reason"]) == (True, 1, None)
    assert not policy["bit_stable"]
    assert Path(policy["library"]).is_file()


@linux_only
def test_exact_puts_kernels_in_front_that_do_not_depend_on_the_batch() -> None:
    policy = policy_of("policy = preload('exact')", OPENBLAS_NUM_THREADS="2")
    assert re.fullmatch(r"invariant \w+ kernels via shim", policy["name"])
    assert (policy["active"], policy["threads"], policy["reason"]) == (True, 1, None)
    assert policy["bit_stable"]


@linux_only
def test_the_threads_a_user_asked_for_are_kept() -> None:
    assert policy_of("policy = preload('fast')", OPENBLAS_NUM_THREADS="2")["threads"] == 2


@linux_only
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_preloading_twice_answers_the_same_policy_even_after_mlx(numerics: str) -> None:
    preload = f"preload('{numerics}')"
    code = f"first = {preload}\nimport mlx.core\nsecond = {preload}\nassert first == second, (first, second)"
    assert policy_of(code, policy="second")["active"]


@linux_only
def test_fast_after_mlx_is_refused() -> None:
    done = run("import mlx.core\nfrom mlx_sidecar.engine.execution.blas import preload\npreload('fast')")
    assert done.returncode == 1
    assert "BlasOrderError: mlx.core was imported before preload()" in done.stderr


@linux_only
@pytest.mark.parametrize(("first", "second"), [("fast", "exact"), ("exact", "fast")])
def test_one_numerics_after_the_other_is_refused(first: str, second: str) -> None:
    done = run(f"from mlx_sidecar.engine.execution.blas import preload\npreload('{first}')\npreload('{second}')")
    assert done.returncode == 1
    assert f"BlasOrderError: numerics '{second}' was asked for after" in done.stderr


@linux_only
def test_exact_after_mlx_leaves_it_the_reference_blas_and_says_why() -> None:
    policy = policy_of("import mlx.core\npolicy = preload('exact')")
    assert (policy["name"], policy["active"], policy["bit_stable"]) == ("mlx reference BLAS", False, True)
    assert "imported before preload()" in policy["reason"]


@linux_only
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_without_openblas_the_reference_blas_stays_and_the_policy_says_why(numerics: str) -> None:
    code = (
        "import mlx_sidecar.engine.execution.blas as blas\n"
        "blas.find_spec = lambda name, real=blas.find_spec: None if name == 'scipy_openblas32' else real(name)\n"
        f"policy = preload('{numerics}')\n"
        "import mlx.core as mx; assert (mx.ones((3, 4)) @ mx.ones((4, 5))).sum().item() == 60"
    )
    policy = policy_of(code)
    assert (policy["name"], policy["active"], policy["bit_stable"]) == ("mlx reference BLAS", False, True)
    assert policy["reason"] == "scipy-openblas32 is not installed"


@linux_only
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_without_the_shim_the_reference_blas_stays_and_the_policy_says_why(numerics: str) -> None:
    policy = policy_of(
        f"import mlx_sidecar_native\nmlx_sidecar_native.shim_path = lambda: None\npolicy = preload('{numerics}')"
    )
    assert (policy["name"], policy["active"], policy["bit_stable"]) == ("mlx reference BLAS", False, True)
    assert "make native" in policy["reason"]


@linux_only
def test_a_library_that_is_no_openblas_is_an_error_and_binds_nothing() -> None:
    done = run(
        "from mlx_sidecar_native import _native, shim_path\n"
        "try:\n    _native.load_blas(str(shim_path()), 'libm.so.6', False)\n"
        "except OSError as error:\n    print(error)\n"
        "assert _native.loaded_blas() is None and _native.blas_threads() == 0"
    )
    assert done.returncode == 0, done.stderr
    assert "libm.so.6 has no symbol scipy_openblas_get_config" in done.stdout


@linux_only
@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_mlx_really_calls_the_shim(numerics: str) -> None:
    # The dynamic linker itself says which library it bound each symbol to.
    code = (
        f"from mlx_sidecar.engine.execution.blas import preload; preload('{numerics}')\n"
        "import mlx.core as mx; mx.eval(mx.ones((8, 8)) @ mx.ones((8, 8)))"
    )
    done = run(code, LD_DEBUG="bindings")
    assert done.returncode == 0
    bound = [line for line in done.stderr.splitlines() if "libmlx.so" in line and "`cblas_sgemm'" in line]
    assert bound
    assert all("libmlx_sidecar_blas.so" in line for line in bound)


@pytest.mark.parametrize("numerics", ["fast", "exact"])
def test_preloading_imports_neither_mlx_nor_numpy(numerics: str) -> None:
    done = run(
        f"from mlx_sidecar.engine.execution.blas import preload; preload('{numerics}')\n"
        "import sys; assert not {'mlx.core', 'numpy', 'ctypes', 'importlib.metadata'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr
