"""Cutting bytes into messages: any split of the stream gives the same messages, and bad ones spoil no others."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_protocol.errors import FrameTooLarge, InvalidRequest, ParseError
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault, encode_frame
from mlx_sidecar_protocol.limits import Limits

SMALL = Limits(frame_bytes=20, header_bytes=64)

Mode = Literal["auto", "lines", "headers"]


def decode(data: bytes, framing: Mode = "auto", limits: Limits = SMALL, step: int | None = None) -> list[object]:
    """Return all frames of ``data`` fed in pieces of ``step`` bytes; a fault as its class and whether it was fatal."""
    decoder = FrameDecoder(framing, limits)
    frames: list[bytes | FrameFault] = []
    for at in range(0, len(data), step or max(1, len(data))):
        frames += decoder.feed(data[at : at + (step or len(data))])
    frames += decoder.close()
    return [(type(one.error), one.fatal) if isinstance(one, FrameFault) else one for one in frames]


def test_lines_end_at_lf_and_only_there() -> None:
    text = '"a\u2028b\u2029c\x85d\x0b\x0c\re"'.encode()
    assert decode(text + b"\n{}\n", limits=Limits()) == [text, b"{}"]


def test_blank_lines_and_crlf_mean_nothing() -> None:
    assert decode(b"\r\n\n  \n[1]\r\n\n\n[2]\n\n") == [b"[1]\r", b"[2]"]


def test_the_last_line_counts_without_its_newline() -> None:
    assert decode(b"[1]\n[2]") == [b"[1]", b"[2]"]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b" \t\r\n", b"\xef\xbb\xbf\r\n "])
def test_bom_and_space_do_not_decide_the_framing(start: bytes) -> None:
    assert decode(start + b"[1]\n") == [b"[1]"]
    assert decode(start + b"Content-Length: 3\r\n\r\n[1]") == [b"[1]"]
    assert decode(start + b"content-type: x\r\ncontent-length: 3\r\n\r\n[1]") == [b"[1]"]


def test_framing_is_unknown_until_something_was_said() -> None:
    for mode in ("auto", "lines", "headers"):
        decoder = FrameDecoder(mode)
        decoder.feed(b"\xef\xbb\xbf \n")
        assert decoder.framing is None
    decoder.feed(b"C")
    assert decoder.framing == "headers"


def test_a_forced_framing_is_kept() -> None:
    assert decode(b"Content-Length: 3\n[1]\n", "lines") == [b"Content-Length: 3", b"[1]"]
    assert decode(b"X: 1\r\nContent-Length: 3\r\n\r\n[1]", "headers") == [b"[1]"]


def test_nothing_at_all_is_no_message() -> None:
    assert decode(b"") == decode(b" \n \xef\xbb\xbf"[:3]) == decode(b"\xef\xbb\xbf\n") == []
    assert decode(b"\xef\xbb") == [b"\xef\xbb"]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_line_over_the_limit_is_one_fault_and_the_next_line_is_read(step: int) -> None:
    data = b"[1]\n" + b"x" * 200 + b"\n[2]\n" + b"y" * 21 + b"\n" + b"z" * 20 + b"\n" + b"t" * 30
    too_large = (FrameTooLarge, False)
    assert decode(data, step=step) == [b"[1]", too_large, b"[2]", too_large, b"z" * 20, too_large]


def test_an_over_long_line_is_not_kept() -> None:
    decoder = FrameDecoder("lines", SMALL)
    for _ in range(1000):
        decoder.feed(b"x" * 1000)
    assert len(decoder._cutter._line) <= SMALL.frame_bytes  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 3\r\n\r\n",
        b"content-length:3\n\n",
        b"CONTENT-LENGTH :   003 \r\n\r\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: 3\r\n\r\n",
        b"Content-Length: 3\r\nX-Trace: 1\r\nnonsense\r\n\r\n",
        b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"\r\n \r\nContent-Length: 3\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 5, None])
def test_headers_are_read_as_hosts_write_them(header: bytes, step: int | None) -> None:
    limits = Limits(frame_bytes=20)
    assert decode((header + b"[1]") * 3, "headers", limits, step) == [b"[1]"] * 3


@pytest.mark.parametrize("length", [b"abc", b"-5", b"+5", b"", b"5 5", b"0x10", b"5.0", b"5,5", "٣".encode()])
def test_an_unusable_length_is_fatal_after_the_good_frames(length: bytes) -> None:
    data = b"Content-Length: 3\r\n\r\n[1]Content-Length: %b\r\n\r\n[2]Content-Length: 3\r\n\r\n[3]" % length
    assert decode(data) == [b"[1]", (InvalidRequest, True)]


@pytest.mark.parametrize("length", [b"21", b"99999999999999", b"9" * 30, b"1" * 5000])
def test_a_length_over_the_limit_is_fatal_and_nothing_is_allocated(length: bytes) -> None:
    limits = Limits(frame_bytes=20)
    assert decode(b"Content-Length: %b\r\n\r\n[2]" % length, limits=limits) == [(FrameTooLarge, True)]


def test_a_header_without_length_or_with_two_is_fatal() -> None:
    assert decode(b"Content-Type: x\r\n\r\n[1]") == [(InvalidRequest, True)]
    assert decode(b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n[1]") == [(InvalidRequest, True)]


@pytest.mark.parametrize("step", [1, None])
@pytest.mark.parametrize("line", [b"[2]", b'{"a":1}', b'"}Content-Length: 3'])
def test_a_line_that_is_no_header_is_fatal_and_not_taken_for_an_unknown_one(line: bytes, step: int | None) -> None:
    data = b"Content-Length: 3\r\n\r\n[1]%b\nContent-Length: 3\r\n\r\n[3]" % line
    assert decode(data, step=step) == [b"[1]", (InvalidRequest, True)]


@pytest.mark.parametrize("step", [1, None])
def test_an_endless_header_is_cut_off(step: int | None) -> None:
    assert decode(b"Content-Length: 5\r\nX: " + b"a" * 1000, step=step) == [(InvalidRequest, True)]


def test_an_empty_body_is_a_message_for_the_parser_to_refuse() -> None:
    assert decode(b"Content-Length: 0\r\n\r\nContent-Length: 3\r\n\r\n[1]") == [b"", b"[1]"]


@pytest.mark.parametrize("rest", [b"Content-Length: 5\r\n\r\n[1", b"Content-Length: 5\r\n", b"Cont"])
def test_input_that_ends_inside_a_frame_is_a_fault(rest: bytes) -> None:
    assert decode(b"Content-Length: 3\r\n\r\n[1]" + rest) == [b"[1]", (ParseError, True)]


def test_input_that_ends_between_frames_is_not() -> None:
    assert decode(b"Content-Length: 3\r\n\r\n[1]\r\n ") == [b"[1]"]


BODIES = st.lists(st.binary(min_size=1, max_size=15).filter(lambda body: b"\n" not in body and body.strip() == body))


@given(BODIES, st.sampled_from(["lines", "headers"]), st.data())
def test_any_split_of_any_messages_gives_them_back(
    bodies: list[bytes], framing: Literal["lines", "headers"], data: st.DataObject
) -> None:
    bodies = [b"[%b]" % body for body in bodies]
    stream = b"".join(encode_frame(body, framing) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    decoder = FrameDecoder(limits=SMALL)
    got: list[bytes | FrameFault] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == bodies
    assert decoder.close() == []


@given(st.binary(max_size=200), st.sampled_from(["auto", "lines", "headers"]), st.integers(1, 50))
def test_the_split_of_any_bytes_whatever_does_not_matter(noise: bytes, framing: Mode, step: int) -> None:
    assert decode(noise, framing, step=step) == decode(noise, framing)
