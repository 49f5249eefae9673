"""The functions of llguidance's shared library, by its C interface, which lets the interpreter go during each call.

The wheel's Python classes hold the interpreter while a tokenizer is built, which takes seconds for a large vocabulary.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

# The interface that the structures below describe. It is not promised to stay the same in another major version.
OLDEST, NEWEST = (1, 9), (2, 0)

TokenizeFn = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_ubyte),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_size_t,
)


class Unavailable(Exception):
    """The library cannot be used, for the reason in the message."""


class TokenizerInit(ctypes.Structure):
    """``LlgTokenizerInitV2``, which begins with its own size, so that a longer one reads the rest as zeros."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_char_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", TokenizeFn),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.c_void_p),
        ("tok_eos_extra", ctypes.c_void_p),
        ("tok_eos_extra_count", ctypes.c_uint32),
    )


class Limits(ctypes.Structure):
    """``LlgParserLimits``: what a grammar may cost to compile and to follow."""

    _fields_ = (
        ("max_items_in_row", ctypes.c_size_t),
        ("initial_lexer_fuel", ctypes.c_uint64),
        ("step_lexer_fuel", ctypes.c_uint64),
        ("step_max_items", ctypes.c_size_t),
        ("max_lexer_states", ctypes.c_size_t),
        ("max_grammar_size", ctypes.c_size_t),
        ("precompute_large_lexemes", ctypes.c_bool),
        ("verbose_errors", ctypes.c_bool),
    )


class MatcherInit(ctypes.Structure):
    """``LlgConstraintInit``. It does not say its size: ``_check_layout`` finds out whether it is this one."""

    _fields_ = (
        ("tokenizer", ctypes.c_void_p),
        ("log_buffer_level", ctypes.c_uint32),
        ("log_stderr_level", ctypes.c_uint32),
        ("ff_tokens_ok", ctypes.c_bool),
        ("backtrack_ok", ctypes.c_bool),
        ("limits", Limits),
    )


_FUNCTIONS: dict[str, tuple[object, tuple[object, ...]]] = {
    "llg_get_version": (ctypes.c_char_p, ()),
    "llg_constraint_init_set_defaults": (None, (ctypes.c_void_p, ctypes.c_void_p)),
    "llg_new_tokenizer_v2": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)),
    "llg_free_tokenizer": (None, (ctypes.c_void_p,)),
    "llg_new_matcher": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)),
    "llg_clone_matcher": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "llg_free_matcher": (None, (ctypes.c_void_p,)),
    "llg_matcher_get_error": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "llg_matcher_validate_tokens": (ctypes.c_int32, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "llg_matcher_consume_tokens": (ctypes.c_int32, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "llg_matcher_compute_ff_tokens": (ctypes.c_int32, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "llg_matcher_compute_mask_into": (ctypes.c_int32, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)),
    "llg_matcher_get_mask_byte_size": (ctypes.c_size_t, (ctypes.c_void_p,)),
    "llg_matcher_is_accepting": (ctypes.c_bool, (ctypes.c_void_p,)),
    "llg_matcher_is_stopped": (ctypes.c_bool, (ctypes.c_void_p,)),
}


@cache
def library() -> ctypes.CDLL:
    """Return the library. Raises ``Unavailable`` where there is none, or another one than these structures describe."""
    path = _path()
    try:
        found = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise Unavailable(f"llguidance's library cannot be used: {error}") from error
    _check_version(found.llg_get_version())
    _check_layout(found)
    return found


@cache
def unavailable() -> str:
    """Return why no answer can be held to a grammar; "" where it can."""
    try:
        library()
    except Unavailable as error:
        return str(error)
    return ""


def _path() -> Path:
    # Finding a package does not import it: its own imports take longer than all that is needed of it.
    spec = find_spec("llguidance")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for suffix in EXTENSION_SUFFIXES:
            if (path := Path(folder) / f"_lib{suffix}").is_file():
                return path
    raise Unavailable("llguidance is not installed")


def _check_version(told: bytes) -> None:
    match = re.match(rb"llguidance@(\d+)\.(\d+)\.", told)
    if match is None or not OLDEST <= (int(match[1]), int(match[2])) < NEWEST:
        have = told.decode(errors="replace")
        raise Unavailable(
            f"llguidance from {_dotted(OLDEST)} on and before {_dotted(NEWEST)} is needed; this is {have}"
        )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _check_layout(found: ctypes.CDLL) -> None:
    """Have the library write its defaults over marked bytes: they show how long its structure is, and what is where."""
    mark, tokenizer = 0xA5, 0x0123456789ABCDEF
    space = (ctypes.c_ubyte * 4096)(*[mark] * 4096)
    found.llg_constraint_init_set_defaults(space, tokenizer)
    init = MatcherInit.from_buffer(space)
    limits = init.limits
    counts = [getattr(limits, field[0]) for field in Limits._fields_ if field[1] is not ctypes.c_bool]
    flags = MatcherInit.limits.offset + Limits.precompute_large_lexemes.offset
    told = bytes(space)
    right = (
        init.tokenizer == tokenizer
        and all(0 < count < 1 << 32 for count in counts)
        and all(byte in (0, 1) for byte in told[flags : flags + 2])
        and told[flags + 2 :] == bytes([mark]) * (len(told) - flags - 2)
    )
    if not right:
        version = found.llg_get_version().decode(errors="replace")
        raise Unavailable(f"{version} has another layout of its structures than the one that is known")
