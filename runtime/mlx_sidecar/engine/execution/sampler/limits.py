"""Parameters as float32 can hold them: hosts write doubles.

Each is brought to the nearest value that leaves every finite logit finite, and that samples what the value asked for
would sample if numbers had no end: beyond these, one token is chosen always or all are chosen alike.
"""

from __future__ import annotations

from msgspec.structs import replace

from ....link.messages import Sampling

_MOST = 1e30  # of a temperature or a bias: twice that is still far from the largest float32, 3.4e38
_COLDEST = 1e-30  # below it nothing but the likeliest token is ever drawn
_MOST_PENALTY = 1e15  # it multiplies logits, which in half precision of 8 exponent bits may be large themselves


def within_float32(sampling: Sampling) -> Sampling:
    """``sampling`` with temperature, penalties and biases that can be computed with."""
    return replace(
        sampling,
        temperature=min(sampling.temperature, _MOST) if sampling.temperature >= _COLDEST else 0.0,
        repetition_penalty=_within(sampling.repetition_penalty, 1 / _MOST_PENALTY, _MOST_PENALTY),
        presence_penalty=_within(sampling.presence_penalty, -_MOST_PENALTY, _MOST_PENALTY),
        frequency_penalty=_within(sampling.frequency_penalty, -_MOST_PENALTY, _MOST_PENALTY),
        logit_bias={token: _within(bias, -_MOST, _MOST) for token, bias in sampling.logit_bias.items()},
    )


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
