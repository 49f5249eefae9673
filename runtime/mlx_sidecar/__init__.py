"""mlx-sidecar: a language-model engine that any program can spawn."""

__version__ = "0.1.0"
