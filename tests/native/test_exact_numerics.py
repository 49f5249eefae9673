"""Under exact numerics a row of mlx's results has the same bits in any batch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is built on Linux only")

BEGIN = """
from mlx_sidecar.engine.execution.blas import preload
policy = preload("exact")
assert policy.active and policy.bit_stable, policy
import random
import mlx.core as mx
import numpy as np
mx.random.seed(1)
numbers = random.Random(1)

def same(got, expected):
    np.testing.assert_array_equal(np.array(got).view(np.uint32), np.array(expected).view(np.uint32))
"""

LINEAR = """
for outputs, inputs in [(1024, 384), (100, 401), (33, 1000), (7, 5)]:
    weight, bias = mx.random.normal((outputs, inputs)), mx.random.normal((outputs,))
    x = mx.random.normal((32, inputs))
    for linear in (lambda x: x @ weight.T, lambda x: mx.addmm(bias, x, weight.T)):
        whole = linear(x)
        for size in (1, 1, 1, 2, 2, 5, 13, 31):
            rows = mx.array(numbers.sample(range(32), size))
            same(linear(x[rows]), whole[rows])
"""

ATTENTION = """
batch, heads, length, size = 3, 4, 19, 64
q, k, v = (mx.random.normal((batch, heads, length, size)) for _ in range(3))
causal = mx.tril(mx.ones((length, length))) > 0

def attend(q, k, v, mask):
    scores = mx.where(mask, q @ k.swapaxes(-1, -2), -mx.inf)
    return mx.softmax(scores, axis=-1) @ v, mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask=mask)

for whole, which in zip(attend(q, k, v, causal), (0, 1)):
    for one in range(length):
        # As in decoding: one query against the keys so far, one sequence alone.
        till = slice(0, one + 1)
        alone = attend(q[1:2, :, one : one + 1], k[1:2, :, till], v[1:2, :, till], causal[one : one + 1, till])
        same(alone[which], whole[1:2, :, one : one + 1])
    for left in (1, 5, 16):
        # As in a batch of unequal lengths: padding in front, masked.
        padded = [mx.concatenate([mx.random.normal((batch, heads, left, size)), part], axis=2) for part in (k, v)]
        mask = mx.concatenate([mx.zeros((length, left)) > 0, causal], axis=1)
        same(attend(q, *padded, mask)[which], whole)
"""

MODEL = """
from mlx_lm.models import llama
from mlx_lm.models.cache import make_prompt_cache
model = llama.Model(llama.ModelArgs(
    model_type="llama", vocab_size=300, hidden_size=96, num_hidden_layers=2, intermediate_size=160,
    num_attention_heads=6, num_key_value_heads=3, rms_norm_eps=1e-5,
))
tokens = mx.random.randint(0, 300, (9, 21))
together = model(tokens)
for row in range(9):
    same(model(tokens[row : row + 1]), together[row : row + 1])
cache = make_prompt_cache(model)
for position in range(21):
    same(model(tokens[:, position : position + 1], cache=cache), together[:, position : position + 1])
"""


@pytest.mark.parametrize("code", [LINEAR, ATTENTION, MODEL], ids=["linear", "attention", "model"])
def test_under_exact_numerics_the_batch_leaves_no_trace(code: str) -> None:
    # A process of its own, because mlx's BLAS cannot be exchanged.
    roots = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
