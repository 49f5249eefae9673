"""Imports of mlx-lm stay cheap, and later imports get the real modules, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

LOOK = """
import json, resource, sys
before = resource.getrlimit(resource.RLIMIT_NOFILE)
from mlx_sidecar.engine.execution import mlxlm
left_out = ("transformers", "huggingface_hub", "numpy", "mlx_lm.tokenizer_utils")
loaded = [name for name in left_out if name in sys.modules]
kept = resource.getrlimit(resource.RLIMIT_NOFILE) == before
import mlx_lm.utils
try:
    mlx_lm.utils.snapshot_download("owner/name")
    used = "it worked"
except ImportError as error:
    used = str(error)
import huggingface_hub
print(json.dumps([loaded, kept, used, callable(huggingface_hub.snapshot_download)]))
"""


def test_mlx_lm_is_imported_without_what_deals_with_text_and_downloads() -> None:
    out = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, check=True, text=True).stdout
    loaded, limits_kept, used, real_one_works = json.loads(out)
    assert loaded == []
    assert limits_kept
    assert used == "huggingface_hub.snapshot_download is left out of the engine"
    assert real_one_works


EVERY_ARCHITECTURE = """
import importlib, json, pkgutil, sys
from mlx_sidecar.engine.execution import mlxlm
import mlx_lm.models
attentions = set()
for module in pkgutil.iter_modules(mlx_lm.models.__path__):
    if module.name != "olmo":  # it ends the process where its own package is missing
        names = vars(importlib.import_module(f"mlx_lm.models.{module.name}"))
        attentions |= {names.get("scaled_dot_product_attention")}
print(json.dumps(["transformers" in sys.modules, attentions == {None, mlxlm.base.scaled_dot_product_attention}]))
"""


def test_every_architecture_is_imported_without_transformers_and_with_the_attention_that_asks_its_keys() -> None:
    out = subprocess.run([sys.executable, "-c", EVERY_ARCHITECTURE], capture_output=True, check=True, text=True).stdout
    transformers, ours = json.loads(out)
    assert not transformers
    assert ours
