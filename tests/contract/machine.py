"""A host that takes any step that a host can take."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from . import messages as m
from .expected import Asked, id_text
from .facts import PARKED
from .session import BATCH_LIMIT, ENDINGS, Ending, Session
from .verdicts import Ajv

kinds = st.integers(0, 8)  # of ids
numbers = st.integers(0, 50)
cuts = st.fixed_dictionaries(
    {},
    optional={"piece_bytes": st.sampled_from([1, 2, 7, 100]), "hold_bytes": st.sampled_from([1, 5, 40])},
)
Cut = dict[str, Any]
Request = tuple[str, Any]


class Machine(RuleBasedStateMachine):
    """One process for each example. ``judge`` is the ajv that all examples share."""

    judge: Ajv | None = None

    def __init__(self) -> None:
        super().__init__()
        self.session: Session
        self.number = 0
        self.reads = True

    @initialize(
        framing=st.sampled_from(["lines", "headers"]),
        forced=st.booleans(),
        tight=st.sampled_from([False, False, True]),
        ending=st.sampled_from(ENDINGS),
    )
    def spawn(self, framing: str, forced: bool, tight: bool, ending: Ending) -> None:
        self.session = Session(framing, forced=forced, tight=tight, ending=ending, judge=self.judge)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()

    def new_id(self, kind: int) -> str:
        self.number += 1
        return m.new_id(self.number, kind)

    def ask(self, method: str, params: Any, kind: int, *, sure: bool = False, **cut: Any) -> None:
        self.session.write(m.call(method, params, id_json=self.new_id(kind)), sure=sure, **cut)

    # Requests.

    @rule(request=m.good_requests, kind=kinds, cut=cuts)
    def asks(self, request: Request, kind: int, cut: Cut) -> None:
        self.ask(*request, kind, sure=True, **cut)

    @rule(params=m.streamed, kind=kinds, cut=cuts)
    def streams(self, params: m.Params, kind: int, cut: Cut) -> None:
        self.ask("generate", params, kind, sure=True, **cut)

    @rule(params=m.parked, kind=kinds)
    def parks(self, params: m.Params, kind: int) -> None:
        """Ask for a stream that waits for an ack for minutes, so that its id and its name are surely taken."""
        self.ask("generate", params, kind, sure=True)

    @rule(request=m.odd_requests, kind=kinds, cut=cuts)
    def asks_oddly(self, request: Request, kind: int, cut: Cut) -> None:
        self.ask(*request, kind, **cut)

    @rule(params=m.failing, kind=kinds)
    def asks_what_fails(self, params: m.Params, kind: int) -> None:
        self.ask("generate", params, kind)

    @rule(params=m.crashing, kind=kinds)
    def asks_what_ends_the_engine(self, params: m.Params, kind: int) -> None:
        if self.number % 3 == 0:  # seldom, because each takes long
            self.ask("generate", params, kind)

    @rule(request=m.good_requests | m.odd_requests, which=numbers)
    def asks_under_an_id_that_is_taken(self, request: Request, which: int) -> None:
        taken = [asked for asked in self.session.contract.open if asked.id is not None and not asked.quick]
        if taken and "stream" not in str(request):
            self.session.write(m.call(*request, id_json=id_text(taken[which % len(taken)].id)))

    @rule(request=m.good_requests.filter(lambda request: request[0] != "generate"))
    def asks_under_null(self, request: Request) -> None:
        self.session.write(m.call(*request, id_json="null"), sure=True)

    @rule(method=m.unknown_methods, params=st.sampled_from([None, {}, [], {"x": 1}]), kind=kinds, told=st.booleans())
    def names_no_method(self, method: str, params: Any, kind: int, told: bool) -> None:
        self.session.write(m.call(method, params, id_json=None if told else self.new_id(kind)))

    @rule(version=st.sampled_from([1, 2, 99]), watched=st.booleans(), kind=kinds)
    def initializes(self, version: int, watched: bool, kind: int) -> None:
        params = {"protocol_version": version, "client": {"name": "contract"}}
        self.ask("initialize", params | ({"process_id": os.getpid()} if watched else {}), kind)
        self.session.write(m.call("initialized"))

    @rule(requests=st.lists(m.good_requests | m.odd_requests, max_size=BATCH_LIMIT + 1), bad=m.bad_elements, kind=kinds)
    def writes_a_batch(self, requests: list[Request], bad: list[bytes], kind: int) -> None:
        # A name is free when its stream has ended, which in a batch may be long before its answer.
        own = [m.renamed(request, f"of batch {self.number}") for request in requests]
        calls = [m.call(*request, id_json=self.new_id(kind + number)) for number, request in enumerate(own)]
        self.session.write(b"[" + b",".join([*calls[:2], *bad, *calls[2:]]) + b"]")

    # Notifications.

    @rule(params=m.streamed, stream=st.sampled_from(m.MUTE_STREAMS))
    def tells_to_generate(self, params: m.Params, stream: Any) -> None:
        self.session.write(m.call("generate", {**params, "stream": stream}))

    @rule(request=(m.good_requests | m.odd_requests).filter(lambda request: request[0] != "generate"), cut=cuts)
    def tells(self, request: Request, cut: Cut) -> None:
        self.session.write(m.call(*request), **cut)

    @rule(params=m.acks, told=st.booleans(), kind=kinds)
    def acknowledges(self, params: m.Params, told: bool, kind: int) -> None:
        """Acknowledge the last delta or any other: late, wrong, again."""
        run = self.session.contract.run_of(params["stream"])
        if run is not None and params["seq"] == 0:
            params = {**params, "seq": run.count - 1}
        self.session.write(m.call("stream/ack", params, id_json=None if told else self.new_id(kind)))

    @rule(which=numbers, runs=st.booleans(), told=st.booleans(), kind=kinds)
    def cancels_an_id(self, which: int, runs: bool, told: bool, kind: int) -> None:
        """Cancel the id of a request that runs, has ended, or never was."""
        asked = [asked for asked in self.session.contract.open if asked.id is not None]
        target = id_text(asked[which % len(asked)].id) if asked and runs else m.new_id(which, 0)
        self.session.write(m.cancel(target, id_json=None if told else self.new_id(kind)))

    # No messages at all.

    @rule(body=st.sampled_from(m.GARBAGE), cut=cuts)
    def writes_garbage(self, body: bytes, cut: Cut) -> None:
        host = self.session.host
        if host.framing == "lines" and body.isspace():
            host.write(body + b"\n")  # a blank line is no message
        elif host.framing == "lines" or len(body) < m.ENDS_A_SESSION_BYTES:
            self.session.write(body, **cut)

    @rule()
    def stops_reading(self) -> None:
        self.session.host.stop_reading()

    @rule()
    def goes_on_reading(self) -> None:
        self.session.host.go_on_reading()

    # Waiting for due answers.

    @rule(kind=kinds)
    def waits_for_a_ping(self, kind: int) -> None:
        asked = self.session.write(m.call("ping", id_json=self.new_id(kind)), sure=True)
        assert isinstance(asked, Asked)
        self.session.wait_for(asked)

    @rule(which=numbers)
    def waits_for_what_ends_by_itself(self, which: int) -> None:
        """Wait for a request that is in no batch and has no window."""
        ending = [
            asked
            for asked in self.session.contract.alone
            if "window" not in (asked.params or {}) and asked.method != "shutdown"
        ]
        if ending:
            self.session.wait_for(ending[which % len(ending)])

    @rule(stream=m.names)
    def reads_a_stream_to_its_end(self, stream: Any) -> None:
        """Read a stream to its end, with an ack for all deltas again and again."""
        contract = self.session.contract
        run, read = contract.run_of(stream), -1
        asked = [asked for asked in contract.alone if (asked.params or {}).get("stream") == stream]
        if run is None or len(asked) != 1 or (asked[0].params or {})["model"] == PARKED:
            return
        self.session.host.go_on_reading()
        while not run.over:
            if run.count - 1 > read:
                read = run.count - 1
                self.session.write(m.call("stream/ack", {"stream": stream, "seq": read}))
            else:
                self.session.hear(wait=True)

    @rule(cancel=st.booleans(), kind=kinds)
    @precondition(lambda self: self.number > 20)
    def asks_to_shut_down(self, cancel: bool, kind: int) -> None:
        self.ask("shutdown", {"cancel": cancel}, kind, sure=True)
