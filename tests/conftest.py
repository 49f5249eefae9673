"""For all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No test measures time: on a busy machine an example takes as long as it takes.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
