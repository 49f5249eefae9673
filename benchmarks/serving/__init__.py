"""Serving under load: ours over pipes against mlx-lm's ``BatchGenerator``, ``mlx_lm.server`` and llama.cpp.

One harness: every contender is a process of its own with the same weights, prompts and matrix products, and they take
turns, round by round. ``python -m benchmarks.serving --help`` says how to run it.
"""
