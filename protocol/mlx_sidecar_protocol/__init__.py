"""The wire contract of mlx-sidecar: models and pure functions, no I/O. Imports only the standard library and pydantic.

Nothing is imported here, so that a program pays only for the modules it names.
"""

PROTOCOL_VERSION = 1

__version__ = "0.1.0"
