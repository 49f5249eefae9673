"""Texts to embed are planned beside streams as prompts are: no stream waits for more than about three decode steps."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.core.batch import Role
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.scheduling.priority_queue import QueueEntry
from mlx_sidecar.link.messages import Embed
from tests.support.sequences import sequence_of
from tests.support.synthetic_device import Costs, Simulation

STREAMS = 8
TEXTS = 32
# A text ends with the step that takes in its last token, which the simulation tells by its limit of one.
GOAL = Embed("mean", 8, normalize=True)


def submit(device: Simulation, id_: int, tokens: int) -> Sequence:
    sequence = sequence_of(id_, [1] * tokens, 1, goal=GOAL, arrived_s=device.now)
    device.running[id_] = QueueEntry(sequence, device.now)
    return sequence


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 512), min_size=TEXTS, max_size=TEXTS), seed=st.integers(0, 100))
def test_no_stream_waits_for_more_than_three_decode_steps_beside_32_texts(lengths: list[int], seed: int) -> None:
    device = Simulation(Costs(), seed)
    for _ in range(STREAMS):
        device.submit(8)
    device.submit(512, limit=1)
    for _ in range(100):  # costs are known once a prompt has been taken in beside streams
        device.step()
    settled = len(device.steps)
    texts = [submit(device, 1000 + number, length) for number, length in enumerate(lengths)]
    while any(text.id in device.running for text in texts):
        device.step()
    assert all(text.known == len(text.tokens) for text in texts)
    for work, took_s, decoding_s in device.steps[settled:]:
        assert sum(part.role is Role.DECODE for part in work) == STREAMS
        assert took_s <= 3.0 * decoding_s


def test_a_text_of_one_token_is_no_decoding() -> None:
    device = Simulation(Costs())
    text = submit(device, 1, 1)
    (part,) = device.step()
    assert (part.sequence, part.tokens, part.role) == (text, 1, Role.PREFILL)
