"""The identity of a model: one name for everything that its keys and values depend on besides the tokens.

It is not the model's name, because two directories with the same weights share what is cached, and a directory whose
weights have changed must not find the old blocks again.
"""

from __future__ import annotations

from hashlib import blake2b

# Raised when the content of segments or the format of files changes.
FORMAT = 1


def identity(*parts: str) -> str:
    """Return the name that ``parts`` have together: 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for part in (str(FORMAT), *parts):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
