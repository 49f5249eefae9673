"""The page names the right sequences while steps overlap, of one model or of several."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlx_sidecar.engine.heartbeat import Heartbeat
from mlx_sidecar.link.heartbeat_page import HeartbeatPage, Snapshot


class Device:
    """A page, and the models that have a step in flight after an operation."""

    def __init__(self) -> None:
        self.page = HeartbeatPage.create()
        self.flying: set[str] = set()
        self.notes = Heartbeat(self.page, lambda model: model in self.flying)

    def step(self, model: str, *ids: int, flies: bool, bound_s: float = 1.0) -> Snapshot:
        """Return the page as it was during a step of ``ids``."""
        self.notes.begin_step(model, list(ids), bound_s)
        during = self.page.read()
        (self.flying.add if flies else self.flying.discard)(model)
        self.notes.end(5.0)
        return during

    def after(self) -> tuple[str, bool, tuple[int, ...]]:
        page = self.page.read()
        return page.kind, page.operating, page.ids


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.page.close()


def test_a_step_that_is_read_at_once_leaves_nothing_on_the_page(device: Device) -> None:
    during = device.step("a", 1, 2, flies=False, bound_s=3.0)
    assert (during.kind, during.operating, during.ids, during.bound_s) == ("step", True, (1, 2), 3.0)
    assert device.after() == ("", False, ())
    assert (device.page.read().operations, device.page.read().ended_s) == (1, 5.0)


def test_what_is_in_flight_stays_named_until_it_was_read_by_its_own_bound(device: Device) -> None:
    device.step("a", 1, 2, flies=True, bound_s=60.0)
    assert device.after() == ("step", False, (1, 2))
    reading = device.step("a", flies=False, bound_s=1.0)
    assert (reading.ids, reading.bound_s) == ((1, 2), 60.0)
    assert device.after() == ("", False, ())


def test_while_a_step_is_started_who_is_read_from_the_one_before_is_named_too(device: Device) -> None:
    device.step("a", 1, 2, flies=True)
    assert device.step("a", 2, 3, flies=True).ids == (2, 3, 1)
    assert device.after() == ("step", False, (2, 3))


def test_a_step_of_one_model_does_not_hide_that_of_another(device: Device) -> None:
    device.step("a", 1, flies=True)
    assert sorted(device.step("b", 2, flies=True).ids) == [1, 2]
    assert device.after() == ("step", False, (1, 2))
    assert sorted(device.step("a", flies=False).ids) == [1, 2]
    assert device.after() == ("step", False, (2,))


def test_a_message_or_a_load_leaves_what_is_in_flight_as_it_was(device: Device) -> None:
    device.step("a", 1, flies=True)
    device.notes.begin_message(7, 10.0)
    assert (device.page.read().kind, device.page.read().ids) == ("message", (7, 1))
    device.notes.end(6.0)
    assert device.after() == ("step", False, (1,))
    assert device.page.read().operations == 1, "the device had no part in it"
    device.notes.begin_load([9], 10.0)
    assert (device.page.read().kind, device.page.read().ids) == ("load", (9,))
    device.notes.end(7.0)
    assert device.after() == ("step", False, (1,))


def test_a_step_that_waits_for_one_that_may_take_longer_may_take_as_long(device: Device) -> None:
    device.step("a", 1, 2, flies=True, bound_s=60.0)
    assert device.step("a", 1, flies=True, bound_s=10.0).bound_s == 60.0
    assert device.step("a", 1, flies=True, bound_s=10.0).bound_s == 10.0


def test_a_step_whose_sequences_have_ended_is_forgotten(device: Device) -> None:
    device.step("a", 1, flies=True)
    device.flying.clear()
    device.notes.note(models=1)
    assert device.after() == ("", False, ())
    assert device.page.read().operations == 1


def test_every_message_counts_once_it_was_dealt_with(device: Device) -> None:
    device.notes.note(taken=1, models=2)
    device.notes.note(models=2)
    device.notes.note(taken=1, models=1)
    assert (device.page.read().taken, device.page.read().models) == (2, 1)
