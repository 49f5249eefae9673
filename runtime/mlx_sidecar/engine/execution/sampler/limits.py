"""Sampling parameters brought within float32, because hosts send doubles.

Each is brought to the nearest value that leaves every finite logit finite. That value samples the same tokens as the
one asked for would in unbounded numbers: beyond these limits one token is always chosen, or all are equally likely.
"""

from __future__ import annotations

from msgspec.structs import replace

from ....link.messages import Sampling

_MOST = 1e30  # of a temperature or a bias: twice that is still far from the largest float32, 3.4e38
_COLDEST = 1e-30  # below it nothing but the likeliest token is ever drawn
_MOST_PENALTY = 1e15  # it multiplies logits, which in half precision of 8 exponent bits may be large themselves


def within_float32(sampling: Sampling) -> Sampling:
    """Return ``sampling`` with temperature, penalties and biases within the limits of float32."""
    return replace(
        sampling,
        temperature=min(sampling.temperature, _MOST) if sampling.temperature >= _COLDEST else 0.0,
        repetition_penalty=_within(sampling.repetition_penalty, 1 / _MOST_PENALTY, _MOST_PENALTY),
        presence_penalty=_within(sampling.presence_penalty, -_MOST_PENALTY, _MOST_PENALTY),
        frequency_penalty=_within(sampling.frequency_penalty, -_MOST_PENALTY, _MOST_PENALTY),
        logit_bias={token: _within(bias, -_MOST, _MOST) for token, bias in sampling.logit_bias.items()},
    )


def without_penalties(sampling: Sampling) -> Sampling:
    """Return ``sampling`` without what depends on the text so far, biases and log-probabilities."""
    return replace(
        sampling,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        logit_bias={},
        logprobs=None,
    )


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)
