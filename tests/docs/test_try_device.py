"""The report of a device, docs/trying-on-a-mac.md, in its quickest form."""

from __future__ import annotations

import pytest

import try_device


def test_it_tells_the_device_its_speed_and_that_an_answer_outlives_the_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert try_device.main(["--quick"]) == 0
    report = capsys.readouterr().out
    assert "self-test" in report
    assert "| prefill of 64 tokens |" in report
    assert "1 engine(s) started again, the same text." in report


def test_another_device_than_the_expected_one_is_a_failure() -> None:
    class Metal:
        def call(self, method: str) -> dict[str, dict[str, str]]:
            assert method == "stats"
            return {"engine": {"backend": "metal", "device": "a device", "policy": "one"}}

    part = try_device._device(Metal(), "cuda")  # type: ignore[arg-type]
    assert not part.is_sound
    assert "cuda was expected" in part.text
