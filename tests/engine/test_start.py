"""An engine begins and ends as it should."""

from __future__ import annotations

import struct

from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.control_messages import Load, Loaded, QueryStats
from mlx_sidecar.link.messages import Generate, Ready, Refused, Sampling, Submit, Tokens
from tests.support.engine_process import engine_process, ready_engine

ON_A_GPU = """
from mlx_sidecar.engine.execution import backend_policy as policy
policy._backend = lambda mx: "metal"
from mlx_sidecar.engine.__main__ import main
main()
"""

WITH_A_BUG = """
from mlx_sidecar.engine import loop
def fail(self): raise ZeroDivisionError("a bug")
loop.Engine._end_late = fail
from mlx_sidecar.engine.__main__ import main
main()
"""


def test_the_first_message_says_what_computes() -> None:
    with ready_engine(engine="mlx", numerics="exact", memory_limit_bytes=123) as engine:
        ready = engine.seen[0]
        assert isinstance(ready, Ready)
        assert ready.pid == engine.process.pid
        assert (ready.backend, ready.numerics, ready.memory_limit_bytes) == ("cpu", "exact", 123)
        assert (ready.waiting_limit, ready.running_limit) == (Limits().waiting, Limits().running)
        assert ready.policy.endswith(" via shim, float32")
        assert set(ready.versions) == {"mlx", "mlx_lm", "mlx_sidecar", "python"}


def test_an_engine_that_cannot_keep_its_promise_says_so_and_leaves() -> None:
    with engine_process(engine="mlx", numerics="exact", program=("-c", ON_A_GPU)) as engine:
        assert engine.at_end() == 78
        [refused] = engine.seen
        assert isinstance(refused, Refused)
        assert (refused.op, refused.fault.kind) == (0, "unsupported_parameter")
        assert refused.fault.details["name"] == "numerics"


def test_a_bug_in_the_loop_ends_the_process() -> None:
    with engine_process(engine="fake", program=("-c", WITH_A_BUG)) as engine:
        engine.send(QueryStats(1))
        assert engine.at_end() == 1


def test_a_frame_that_is_no_message_ends_the_process() -> None:
    with ready_engine(engine="fake") as engine:
        engine.link.sendall(struct.pack("<I", 3) + b"abc")
        assert engine.at_end() == 1


def test_a_link_that_closes_during_start_up_ends_the_process() -> None:
    with engine_process(engine="mlx") as engine:
        engine.link.close()
        assert engine.process.wait(60) == 0


SLOW_TO_HEAR = """
import threading
from mlx_sidecar.engine import inbox
receive = inbox.Inbox._receive
inbox.Inbox._receive = lambda self: receive(self) or threading.Event().wait()
from mlx_sidecar.engine.__main__ import main
main()
"""


def test_a_link_that_breaks_in_the_middle_of_a_send_is_no_failure() -> None:
    with engine_process(engine="fake", program=("-c", SLOW_TO_HEAR)) as engine:
        endless = "fake?tokens=1000000&context=2000000&delay_ms=1"
        engine.send(Load(1, endless, "fake"))
        engine.wait(Loaded)
        engine.send(Submit(1, endless, [1], Generate(Sampling(), [], 1_000_000)))
        engine.wait(Tokens)
        engine.link.close()
        assert engine.process.wait(60) == 0
