"""``python -m mlx_sidecar.text --fd N …`` runs a text process; only the front starts one.

It interprets files and code that come with models, which are not trusted. So it holds nothing of value and may be
killed at any time: the front sends the unanswered request to another text process.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from mlx_sidecar_protocol.errors import InternalError

from ..bare_import import uncollected
from ..link.codec import Decoder, Unreadable, encode
from ..link.faults import fault_of
from ..link.parent_death import die_with
from ..link.text_messages import TextReady, TextRefused, ToText
from ..observe.stderr import log_to_stderr
from .limits import Limits
from .server import TextServer, frame_of

_READ_BYTES = 1 << 18


def main() -> NoReturn:
    """Answer one request after the other until the link closes."""
    options = _parser().parse_args()
    if options.parent is not None:
        die_with(options.parent)
    os.set_inheritable(options.fd, False)
    log_to_stderr(options.log_level, "text: %(levelname)s: %(message)s")
    # Ctrl-C in a terminal reaches the whole process group, and is for the front to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=options.fd)
    limits = Limits(options.memory_limit_bytes)
    limits.set()
    with suppress(ConnectionError):  # the front is gone
        _serve(link, TextServer(limits.allow, trust_remote_code=options.trust_remote_code))
    os._exit(0)  # not sys.exit, because code of a model may have left threads that do not end


def _serve(link: socket.socket, server: TextServer) -> None:
    decoder: Decoder[ToText] = Decoder(ToText)  # type: ignore[arg-type]  # a union is not a type[T]
    link.sendall(encode(TextReady(os.getpid())))
    _import_ahead()
    while data := link.recv(_READ_BYTES):
        for message in decoder.feed(data):
            link.sendall(_answer(server, message))


def _import_ahead() -> None:
    """Import what the first model will need, 60 ms, while the engine still starts and the front has no request."""
    with uncollected():
        import tokenizers  # noqa: F401

        from . import sandbox  # noqa: F401


def _answer(server: TextServer, message: ToText | Unreadable) -> bytes:
    if isinstance(message, Unreadable):
        return encode(TextRefused(message.op or 0, fault_of(InternalError())))
    return frame_of(server.answer(message), message.folder.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlx_sidecar.text", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="our end of the link, inherited")
    parser.add_argument("--parent", type=int, help="the process to end with; none: only with the link")
    parser.add_argument("--memory-limit-bytes", type=int, required=True, help="of address space")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code a tokenizer brings")
    parser.add_argument("--log-level", default="warning")
    return parser


if __name__ == "__main__":
    main()
