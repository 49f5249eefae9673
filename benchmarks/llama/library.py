"""llama.cpp's shared libraries, out of a package of the Node registry, and as much of their C API as is measured.

The structures are those of ``llama.h`` in release 0.5.0, which is also the one in the sdist of llama-cpp-python 0.3.36.
``open_library`` compares their defaults with known ones, because another release may have moved a field.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import sys
import tarfile
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_float, c_int, c_int8, c_int32, c_size_t, c_uint32
from ctypes import c_void_p as pointer
from pathlib import Path
from typing import Any

from ..corpus import CACHE, Package, archive

PACKAGE = Package(
    "npm",
    "@node-llama-cpp/linux-x64",
    "3.22.1",
    "node-llama-cpp-linux-x64-3.22.1.tgz",
    "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0",
)
RELEASE = "0.5.0"
FOLDER = CACHE.parent / "llama"
UBATCH = 512  # tokens of one pass, llama.cpp's own default
FTYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "BF16": 32}
_ERROR = 4
_LOADED = re.compile(r"libggml-cpu-(\w+)\.so")

Log = ctypes.CFUNCTYPE(None, c_int, c_char_p, pointer)


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class ModelParams(Structure):
    _fields_ = (
        *_fields(pointer, "devices tensor_buft_overrides"),
        *_fields(c_int32, "n_gpu_layers split_mode load_mode lazy_mode main_gpu"),
        *_fields(pointer, "tensor_split progress_callback progress_callback_user_data kv_overrides"),
        *_fields(c_bool, "vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp"),
    )


class ContextParams(Structure):
    _fields_ = (
        *_fields(c_uint32, "n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq"),
        *_fields(c_int32, "n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type"),
        *_fields(c_int32, "flash_attn_type"),
        *_fields(c_float, "rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast"),
        *_fields(c_float, "yarn_beta_slow"),
        *_fields(c_uint32, "yarn_orig_ctx"),
        *_fields(c_float, "defrag_thold"),
        *_fields(pointer, "cb_eval cb_eval_user_data"),
        *_fields(c_int32, "type_k type_v"),
        *_fields(pointer, "abort_callback abort_callback_data"),
        *_fields(c_bool, "embeddings offload_kqv no_perf op_offload swa_full kv_unified"),
        *_fields(pointer, "samplers"),
        *_fields(c_size_t, "n_samplers"),
        *_fields(pointer, "ctx_other"),
    )


class QuantizeParams(Structure):
    _fields_ = (
        *_fields(c_int32, "nthread ftype output_tensor_type token_embedding_type"),
        *_fields(c_bool, "allow_requantize quantize_output_tensor only_copy pure keep_split dry_run"),
        *_fields(pointer, "imatrix kv_overrides tt_overrides prune_layers"),
        *_fields(c_size_t, "max_buf_size"),
    )


class Batch(Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", pointer),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "model_default_params": (ModelParams, []),
    "context_default_params": (ContextParams, []),
    "model_quantize_default_params": (QuantizeParams, []),
    "model_load_from_file": (pointer, [c_char_p, ModelParams]),
    "model_quantize": (c_uint32, [c_char_p, c_char_p, POINTER(QuantizeParams)]),
    "model_get_vocab": (pointer, [pointer]),
    "vocab_n_tokens": (c_int32, [pointer]),
    "init_from_model": (pointer, [pointer, ContextParams]),
    "free": (None, [pointer]),
    "batch_init": (Batch, [c_int32, c_int32, c_int32]),
    "batch_free": (None, [Batch]),
    "decode": (c_int32, [pointer, Batch]),
    "synchronize": (None, [pointer]),
    "get_logits_ith": (POINTER(c_float), [pointer, c_int32]),
    "get_memory": (pointer, [pointer]),
    "memory_clear": (None, [pointer, c_bool]),
    "memory_seq_rm": (c_bool, [pointer, c_int32, c_int32, c_int32]),
    "log_set": (None, [Log, pointer]),
    "backend_init": (None, []),
}


class LlamaError(Exception):
    """A call of llama.cpp failed, or its libraries are of another release than these bindings."""


def fetch() -> Path:
    """Return the folder of the libraries, fetched and unpacked unless they are there. Raises corpus.NotFetched."""
    folder = FOLDER / PACKAGE.file.removesuffix(".tgz")
    if not folder.is_dir():
        fresh = folder.with_suffix(".unpacking")
        shutil.rmtree(fresh, ignore_errors=True)
        with tarfile.open(archive(PACKAGE)) as packed:
            for member in packed:
                if member.isfile() and member.name.endswith(".so"):
                    member.name = Path(member.name).name
                    packed.extract(member, fresh, filter="data")
        fresh.replace(folder)
    return folder


def open_library(variant: str | None = None) -> Library:
    """Load llama.cpp into this process. ``variant``: a set of kernels (haswell, zen4, …) instead of the best one.

    Raises corpus.NotFetched where there are no libraries, LlamaError where they do not fit.
    """
    folder = fetch()
    ggml = ctypes.CDLL(str(folder / f"libggml.v{RELEASE}.so"), mode=ctypes.RTLD_GLOBAL)
    library = Library(ctypes.CDLL(str(folder / f"libllama.v{RELEASE}.so"), mode=ctypes.RTLD_GLOBAL))
    if variant is None:
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
    else:
        ggml.ggml_backend_load.restype = pointer
        if ggml.ggml_backend_load(str(folder / f"libggml-cpu-{variant}.so").encode()) is None:
            raise LlamaError(f"no kernels named {variant}, or this processor cannot run them")
    library.check()
    return library


class Library:
    """The functions of ``llama.h``, without their prefix."""

    def __init__(self, llama: ctypes.CDLL) -> None:
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(llama, f"llama_{name}")
            function.restype, function.argtypes = result, arguments
        self._llama = llama
        self._log = Log(_log)  # kept, because C keeps its address
        self.log_set(self._log, None)
        self.backend_init()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llama, f"llama_{name}")

    @property
    def variant(self) -> str:
        """Name of the kernels in use: ggml has a library of them for each generation of processors."""
        found = _LOADED.search(Path("/proc/self/maps").read_text())
        return found[1] if found else "none"

    def check(self) -> None:
        """Raise LlamaError unless defaults that stand far apart in the structures are where they should be."""
        context, quantize = self.context_default_params(), self.model_quantize_default_params()
        found = (context.n_batch, context.n_ubatch, context.flash_attn_type, context.yarn_beta_slow, context.type_v)
        more = (context.offload_kqv, context.n_samplers, self.model_default_params().use_extra_bufts)
        if (*found, *more, quantize.max_buf_size) != (2048, UBATCH, -1, -1.0, 1, True, 0, True, 8 << 30):
            raise LlamaError(f"not the llama.h of release {RELEASE}")

    def quantize(self, source: Path, target: Path, ftype: str) -> None:
        """Write the model in ``source`` as ``ftype``, one of FTYPES. Raises LlamaError."""
        params = self.model_quantize_default_params()
        params.nthread, params.ftype, params.allow_requantize = 1, FTYPES[ftype], True
        fresh = target.with_suffix(".writing")
        if self.model_quantize(str(source).encode(), str(fresh).encode(), byref(params)) != 0:
            raise LlamaError(f"{source} cannot be made {ftype}")
        fresh.replace(target)

    def load(self, path: Path) -> int:
        """Return the address of the model in a GGUF file. Raises LlamaError."""
        model: int | None = self.model_load_from_file(str(path).encode(), self.model_default_params())
        if model is None:
            raise LlamaError(f"{path} cannot be loaded")
        return model


class Context:
    """Keys and values of ``rows`` sequences with room for ``room`` tokens each; greedy tokens out of their logits."""

    def __init__(self, library: Library, model: int, rows: int, room: int, *, threads: int, flash: bool) -> None:
        """Raises LlamaError where there is not enough memory."""
        params = library.context_default_params()
        params.n_ctx, params.n_seq_max, params.n_outputs_max = rows * _padded(room), rows, rows
        params.n_batch = max(rows, room, UBATCH)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(flash)
        self._library = library
        self._vocabulary = library.vocab_n_tokens(library.model_get_vocab(model))
        self._context = library.init_from_model(model, params)
        if self._context is None:
            raise LlamaError(f"no context for {rows} sequences of {room} tokens")
        self._memory = library.get_memory(self._context)
        self._batch = library.batch_init(params.n_batch, 0, 1)
        self._wanted: list[int] = []

    def put(self, row: int, position: int, tokens: Sequence[int]) -> None:
        """Add to the next pass ``tokens`` of a row, of which the last one is to be followed."""
        batch = self._batch
        for offset, token in enumerate(tokens):
            at = batch.n_tokens + offset
            batch.token[at], batch.pos[at] = token, position + offset
            batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, row, 0
        batch.n_tokens += len(tokens)
        batch.logits[batch.n_tokens - 1] = 1
        self._wanted.append(batch.n_tokens - 1)

    def run(self) -> list[int]:
        """Make the pass, and return the likeliest next token for each ``put``. Raises LlamaError."""
        import numpy as np

        status = self._library.decode(self._context, self._batch)
        if status != 0:
            raise LlamaError(f"llama_decode returned {status}")
        self._library.synchronize(self._context)
        wanted, self._wanted, self._batch.n_tokens = self._wanted, [], 0
        logits = (self._library.get_logits_ith(self._context, at) for at in wanted)
        return [int(np.ctypeslib.as_array(each, (self._vocabulary,)).argmax()) for each in logits]

    def forget(self, row: int) -> None:
        self._library.memory_seq_rm(self._memory, row, -1, -1)

    def clear(self) -> None:
        self._library.memory_clear(self._memory, False)

    def close(self) -> None:
        self._library.batch_free(self._batch)
        self._library.free(self._context)


def _padded(room: int) -> int:
    return -(-room // 256) * 256


def _log(level: int, text: bytes, _: object) -> None:
    """Pass errors on; llama.cpp gives warnings of what is meant here, such as a context below the trained one."""
    if level == _ERROR:
        sys.stderr.write(text.decode(errors="replace"))
