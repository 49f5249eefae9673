def build_info() -> dict[str, str]:
    """What the extension was built from and with: `version`, `compiler`, `system`, `python`."""

def load_blas(shim: str, openblas: str, invariant: bool) -> tuple[str, str, str | None]:
    """Put the shim's cblas in front of any BLAS that is loaded later.

    `invariant`: the shim computes every float32 product itself, and the bits of an element do not depend on what shares
    the product with it. Answers (path, configuration) of the OpenBLAS and, where `invariant`, the name of the kernels.
    A second call changes nothing and answers what the first one loaded. Raises OSError; then nothing has changed.
    """

def loaded_blas() -> tuple[str, str, str | None] | None:
    """What `load_blas` answered in this process, or None."""

def blas_threads() -> int:
    """Threads the loaded OpenBLAS uses for one product; 0 when none is loaded."""
