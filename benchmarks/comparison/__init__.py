"""The questions of docs/comparison.md, asked of this gateway and of its peers: ``python -m benchmarks.comparison``."""
