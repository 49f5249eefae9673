"""The wire contract of mlx-sidecar: models and pure functions, on the standard library and pydantic alone.

This module imports nothing, so that a program pays only for the modules it names.
"""

PROTOCOL_VERSION = 1

__version__ = "0.1.0"
