def build_info() -> dict[str, str]:
    """What the extension was built from and with: `version`, `compiler`, `system`, `python`."""

def load_blas(shim: str, openblas: str) -> tuple[str, str]:
    """Put the shim's cblas in front of any BLAS that is loaded later; answers (path, configuration) of the OpenBLAS.

    A second call changes nothing and answers what the first one loaded. Raises OSError; then nothing has changed.
    """

def loaded_blas() -> tuple[str, str] | None:
    """What `load_blas` loaded into this process: (path, configuration), or None."""

def blas_threads() -> int:
    """Threads the loaded OpenBLAS uses for one product; 0 when none is loaded."""
