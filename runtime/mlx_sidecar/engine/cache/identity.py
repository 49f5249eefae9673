"""What a model's keys and values depend on besides the tokens, as one name. Not the model's name: two directories with
the same weights share what is cached, and a directory whose weights have changed does not find it again."""

from __future__ import annotations

from hashlib import blake2b

# Raised when segments come to hold something else, or files to look otherwise.
FORMAT = 1


def identity(*parts: str) -> str:
    """The name that ``parts`` have together, 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for part in (str(FORMAT), *parts):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
