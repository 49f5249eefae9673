"""The kernels of a decoder's step under the sanitizers, and the baseline with FMA beside the other sets."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlx_sidecar_native._native import cpu

DRIVER = Path(__file__).with_name("cpu_sanitized.cpp")
SOURCES = DRIVER.parents[2] / "native" / "src" / "cpu"
# Without optimisation the compiler takes a quarter of the time.
FLAGS = ["-std=c++17", "-O0", "-ffp-contract=off", "-w", "-I", str(SOURCES)]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Of each set its vectors and its flags.
SETS = {
    "baseline": ("lanes_baseline.hpp", ["-mfma"]),
    "avx2": ("lanes_avx2.hpp", [*SANITIZERS, "-mavx2", "-mfma", "-mf16c"]),
}


def checksum(directory: Path, name: str) -> str:
    lanes, flags = SETS[name]
    program = directory / name
    command = ["g++", *FLAGS, *flags, f'-DLANES="{lanes}"', str(DRIVER), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.skipif("avx2" not in cpu.kernel_sets(), reason="the flags are those of AVX2")
def test_kernels_stay_within_their_buffers_and_the_baseline_with_fma_gives_the_same_bits(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda name: checksum(tmp_path, name), SETS)
    assert first == second
