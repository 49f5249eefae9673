"""Makes mlx-lm model directories of GGUF files, without mlx and without running anything that a file brings."""
