"""What was compiled for mlx-sidecar; see blas.cpp and module.cpp."""
