#!/bin/sh
# Brings what tests/real needs, once: a real model and what mlx-lm makes of the prompts, and real tokenizers. What the
# registries do not give is not tested, and this says so.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH="$PWD/.venv/node:$PATH"

.venv/bin/python tools/real_model.py || exit 1
.venv/bin/python tools/real_tokenizers.py || exit 1
PYTHONPATH=tools .venv/bin/python -m tests.real.reference
