"""The kernels and rows of a decoder under the sanitizers, and the baseline with FMA beside the other sets."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlx_sidecar_native._native import cpu

SOURCES = Path(__file__).parents[2] / "native" / "src" / "cpu"
FLAGS = ["-std=c++17", "-O0", "-ffp-contract=off", "-w", "-I", str(SOURCES)]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mf16c"]
# Of each set its vectors, its flags and the kernel set that this processor must have to run it.
SETS = {
    "baseline": ("lanes_baseline.hpp", ["-mfma"], "avx2"),
    "avx2": ("lanes_avx2.hpp", [*SANITIZERS, "-mavx2", "-mfma", "-mf16c"], "avx2"),
    # Its bounds are those of AVX2, and test_cpu_linear has guarded pages: here its bits count.
    "avx512": ("lanes_avx512.hpp", [*AVX512, "-mavx512vnni"], "avx512_vnni"),
}


def checksum(directory: Path, driver: Path, name: str) -> str:
    lanes, flags, _ = SETS[name]
    program = directory / name
    command = ["g++", *FLAGS, *flags, f'-DLANES="{lanes}"', str(driver), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("driver", ["cpu_sanitized.cpp", "attention_sanitized.cpp"])
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86-64")
def test_every_set_stays_within_its_buffers_and_gives_the_same_bits(tmp_path: Path, driver: str) -> None:
    source = Path(__file__).with_name(driver)
    names = [name for name, (_, _, needed) in SETS.items() if needed in cpu.kernel_sets()]
    with ThreadPoolExecutor(2) as pool:
        sums = list(pool.map(lambda name: checksum(tmp_path, source, name), names))
    assert len(set(sums)) <= 1, dict(zip(names, sums, strict=True))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.skipif(platform.system() != "Linux", reason="it asks Linux which pages are in memory")
def test_rows_and_held_blocks_keep_their_tokens_and_give_their_memory_back(tmp_path: Path) -> None:
    sources = [Path(__file__).with_name("cache_sanitized.cpp"), SOURCES / "cache.cpp", SOURCES / "pages.cpp"]
    program = tmp_path / "cache"
    subprocess.run(["g++", *FLAGS, *SANITIZERS, *map(str, sources), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
