"""Checks from its numbers whether a segment is fit for use."""

from __future__ import annotations

import mlx.core as mx

from ..cache.segment import Segment


def sound(segment: Segment) -> bool:
    """Whether a state that was computed holds numbers. Waits for it.

    A NaN or an infinity in a layer reaches the layers above, so only the last one of each span is looked at. Recurrent
    states may use an infinity for "nothing yet", so only NaN counts in them.
    """
    keys_and_values = [mx.all(mx.isfinite(span.last)) for span in segment.spans if span.first < segment.stop]
    states = [~mx.any(mx.isnan(checkpoint)) for checkpoint in segment.checkpoints if checkpoint is not None]
    found = [*keys_and_values, *states]
    return not found or bool(mx.all(mx.stack(found)).item())
