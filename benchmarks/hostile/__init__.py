"""Mutated model directories beside an innocent stream: ``python -m benchmarks.hostile``."""
