"""Runs cases on one sidecar: each case's undisturbed answer alone, then all of them together, in a few rounds."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from tests.support.host import Frame
from tests.support.sidecar import Sidecar

from .cases import Case
from .features import BESIDE, DRAFT
from .listener import Listener
from .models import load_adapters
from .stops import stop_string, stop_token

_FILLERS = 32  # as many as run together of one model
_ATTEMPTS = 20
_CROWD = 16  # a request that is alone may be over before anything happens to it


@dataclass
class Outcome:
    """A case's ``answer`` with its ``deltas``, and the answer that it gets alone (``undisturbed``), ``exact`` or not.

    ``unstopped`` is that without stop strings and tokens, ``likely`` the log-probabilities of the undisturbed one, and
    ``again`` what was answered to the same request afterwards, where the model had been unloaded. ``beside`` are, by
    method, the vectors or scores that were asked for meanwhile (a whole frame), and those that are given alone.
    """

    case: Case
    exact: bool
    asked: Frame
    answer: Frame
    deltas: list[Frame] | None
    undisturbed: Frame
    unstopped: Frame
    likely: list[Frame]
    again: Frame | None = None
    beside: dict[str, tuple[Frame, Frame]] = field(default_factory=dict)
    beside_again: dict[str, tuple[Frame, Frame]] = field(default_factory=dict)


@dataclass
class _Asked:
    case: Case
    params: Frame
    id: int
    beside: dict[str, int] = field(default_factory=dict)  # ids by method


class Rounds:
    """All requests of one sidecar."""

    def __init__(self, process: Sidecar, models: dict[str, str], *, exact: bool) -> None:
        self._process = process
        self._exact = exact
        self._models = models
        self._alone: dict[Case, Frame] = {}
        self._beside_alone: dict[tuple[str, str], Frame] = {}
        self._listener = Listener(process)
        self._numbers = count(1)

    def run(self, cases: list[Case]) -> dict[Case, Outcome]:
        """Run each case in its round: on a cold cache or not, with a deadline or not, and for each set of events."""
        for case in cases:
            self._prepare(case)
        found: dict[Case, Outcome] = {}
        calm = [case for case in cases if not case.events]
        self._process.call("cache/clear")
        for warm in (False, True):
            for hurried in (False, True):
                chosen = [case for case in calm if (("prefix hit" in case), ("deadline" in case)) == (warm, hurried)]
                found |= {outcome.case: outcome for outcome in self._together(chosen)}
        for events in sorted({case.events for case in cases if case.events}, key=sorted):
            found |= self._disturbed([case for case in cases if case.events == events], events)
        return found

    # Answers of a request that is alone, with nothing cached.

    def alone(self, case: Case) -> Frame:
        """Return the answer to a request that has the features of ``case``, which are parameters or models."""
        if case not in self._alone:
            params = self._params(case)
            self._process.call("cache/clear")
            self._alone[case] = self._process.call("generate", params)
        return self._alone[case]

    def _alone_beside(self, method: str, model: str) -> Frame:
        """Return the vectors or scores of ``model`` where nothing else is asked."""
        if (method, model) not in self._beside_alone:
            self._process.call("cache/clear")
            self._beside_alone[method, model] = self._process.call(
                method, {**BESIDE[method], "model": self._models[model]}
            )
        return self._beside_alone[method, model]

    def _prepare(self, case: Case) -> None:
        for method in case.beside:
            self._alone_beside(method, case.model)
        self.alone(case.undisturbed)
        if "logprobs" in case:
            self.alone(case.undisturbed.with_("logprobs"))

    def _params(self, case: Case) -> Frame:
        params = {**case.params(), "model": self._models[case.model]}
        if (speculation := params["speculation"]) and "draft" in speculation:
            params["speculation"] = {**speculation, "draft": self._models[DRAFT]}
        if "stop string" in case:
            params["stop"] = [stop_string(self.alone(case.unstopped))]
        if "stop token" in case:
            params["stop_tokens"] = [stop_token(self.alone(case.unstopped), has_form=case.has_form)]
        if case.streams:
            params["stream"] = str(next(self._numbers))
        return params

    # Rounds.

    def _together(self, cases: list[Case], happen: Callable[[], None] | None = None) -> list[Outcome]:
        """Ask for all ``cases`` at once; let something ``happen`` as soon as each has begun to be answered."""
        asked = [self._ask(case) for case in cases]
        if happen is not None:
            self._listener.hear_beginnings({each.params["stream"]: each.id for each in asked})
        for each in asked:
            self._ask_beside(each)
        if happen is not None:
            happen()
        ids = {id_ for each in asked for id_ in (each.id, *each.beside.values())}
        self._listener.hear_answers(ids)
        return [self._outcome(each) for each in asked]

    def _disturbed(self, cases: list[Case], events: frozenset[str]) -> dict[Case, Outcome]:
        """Run cases until each has met the events in its middle: an answer may be whole before they come."""
        found: dict[Case, Outcome] = {}
        for _ in range(_ATTEMPTS):
            before = self._preemptions() if "preemption" in events else 0
            open_ = [case for case in cases if case not in found]
            open_ *= max(1, _CROWD // len(open_))
            pid = self._process.engine_pid()
            models = sorted({case.model for case in open_})
            outcomes = self._together(open_, partial(self._happen, events, models, pid))
            preempted = "kill" in events or "preemption" not in events or self._preemptions() > before
            found |= {outcome.case: outcome for outcome in outcomes if preempted and self._met(outcome, events)}
            if len(found) == len(cases):
                break
        assert len(found) == len(cases), [str(case) for case in cases if case not in found]
        if "unload" in events:
            for again in self._together(list(found)):
                found[again.case].again = again.answer
                found[again.case].beside_again = again.beside
        return found

    def _met(self, outcome: Outcome, events: frozenset[str]) -> bool:
        if "unload" in events:
            return bool(outcome.answer["finish_reason"] == "error")
        return "kill" not in events or outcome.answer["stream"] in self._listener.interrupted

    def _happen(self, events: frozenset[str], models: list[str], pid: int) -> None:
        fillers = [id_ for name in models for id_ in self._fill(name)] if "preemption" in events else []
        if "kill" in events:
            self._process.signal_engine(signal.SIGKILL, pid)
        if "unload" in events:
            self._listener.hear_answers(set(fillers))  # so that others have been preempted
            self._listener.hear_answers({self._unload(name) for name in [DRAFT, *models]})
            self._process.call("load", {"model": self._models[DRAFT]})  # which no request loads
            load_adapters(self._process, self._models)  # which went with their models
        self._listener.hear_answers(set(fillers))

    def _fill(self, name: str) -> list[int]:
        """Ask for more than runs beside others, in one write, because what is preempted should not be over before."""
        params = {"tokens": [1, 2, 3], "max_tokens": 4, "priority": "critical", "speculation": False}
        return self._process.requests("generate", [{"model": self._models[name], **params}] * _FILLERS)

    def _unload(self, name: str) -> int:
        id_: int = self._process.request("unload", {"model": self._models[name], "force": True})
        return id_

    def _preemptions(self) -> int:
        return int(self._process.call("stats")["counters"].get("preemptions", 0))  # an engine that comes has none yet

    # One request.

    def _ask(self, case: Case) -> _Asked:
        params = self._params(case)
        if "window" in case:
            self._listener.windows.add(params["stream"])
        return _Asked(case, params, self._process.request("generate", params))

    def _ask_beside(self, asked: _Asked) -> None:
        case = asked.case
        for method in case.beside:
            params = {**case.params_beside(method), "model": self._models[case.model]}
            asked.beside[method] = self._process.request(method, params)

    def _outcome(self, asked: _Asked) -> Outcome:
        case = asked.case
        own = self._listener.deltas[asked.params["stream"]] if case.streams else None
        likely = self.alone(case.undisturbed.with_("logprobs"))["logprobs"] if "logprobs" in case else []
        undisturbed, unstopped = self.alone(case.undisturbed), self.alone(case.unstopped)
        beside = {
            method: (self._listener.answer(id_), self._alone_beside(method, case.model))
            for method, id_ in asked.beside.items()
        }
        answer = self._listener.result(asked.id)
        return Outcome(case, self._exact, asked.params, answer, own, undisturbed, unstopped, likely, beside=beside)
