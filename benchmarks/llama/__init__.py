"""Ours against llama.cpp and mlx-lm on a Linux CPU, in process and over pipes: ``python -m benchmarks.llama``."""
