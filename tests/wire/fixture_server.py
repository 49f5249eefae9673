"""The wire alone, as a real process: lifecycle and fixture methods, no engine behind them."""

from __future__ import annotations

import sys

from mlx_sidecar.wire.reader import Reader
from mlx_sidecar.wire.stdio import claim
from mlx_sidecar.wire.writer import Writer

if __name__ == "__main__":
    wire_in, wire_out = claim()
    reader = Reader(wire_in)
    reader.start()

    import asyncio
    import os
    from dataclasses import asdict

    from mlx_sidecar.wire.fixtures import Fixtures
    from mlx_sidecar.wire.mailbox import Mailbox
    from mlx_sidecar.wire.session import Session
    from mlx_sidecar.wire.watch import on_signals, until_orphaned
    from mlx_sidecar_protocol.lifecycle import negotiate
    from mlx_sidecar_protocol.limits import Limits
    from mlx_sidecar_protocol.operations import (
        InitializeParams,
        InitializeResult,
        ServerCapabilities,
        ServerInfo,
        ServerLimits,
    )

    def initialize(params: InitializeParams) -> InitializeResult:
        return InitializeResult(
            protocol_version=negotiate(params.protocol_version),
            server=ServerInfo(name="fixture", version="0"),
            instance="fixture",
            capabilities=ServerCapabilities(methods=[], generate_parameters=[], autoload=False),
            limits=ServerLimits(**asdict(LIMITS)),
        )

    async def main() -> int:
        mailbox = Mailbox()
        session = Session(Fixtures().methods(), initialize, reader, Writer(wire_out, mailbox), mailbox, limits=LIMITS)
        on_signals(session.end)
        watch = asyncio.create_task(until_orphaned(PARENT, lambda: session.host_process_id))
        watch.add_done_callback(lambda _: session.end(1))
        code = await session.run()
        watch.cancel()
        return code

    PARENT = os.getppid()
    LIMITS = Limits(frame_bytes=int(sys.argv[1])) if len(sys.argv) > 1 else Limits()
    sys.setswitchinterval(0.0005)
    sys.exit(asyncio.run(main()))
