"""The compiled part of mlx-sidecar: the prefix index, and on Linux the BLAS shim and the calls that load it.

The extension is imported by name (`from mlx_sidecar_native import _native`), not from here: a checkout that has not
been built must still be able to say so.
"""

from pathlib import Path

SHIM_NAME = "libmlx_sidecar_blas.so"


def shim_path() -> Path | None:
    """Return the BLAS shim built with this package; None where there is none (macOS, or an unbuilt checkout)."""
    # Installed for editing, this package has two directories: the sources and what was built.
    candidates = (Path(directory) / SHIM_NAME for directory in __path__)
    return next((path for path in candidates if path.is_file()), None)
