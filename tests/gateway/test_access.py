"""Whom the gateway answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.access import Access, is_loopback
from mlx_sidecar_gateway.core.keys import Key
from mlx_sidecar_gateway.surfaces.faults import Refused
from tests.gateway.support import Running, ask, asking, chat, running

PAGE = "https://page.example"


def status(access: Access, **headers: str) -> int:
    try:
        access.check({name.replace("_", "-"): value for name, value in headers.items()})
    except Refused as refused:
        return refused.fault.status
    return 200


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("rebound.example:8080", 403),
        ("localhost@rebound.example", 403),
        ("localhost.rebound.example", 403),
        ("", 403),
    ],
)
def test_a_name_that_leads_here_is_not_enough(host: str, answered: int) -> None:
    assert status(Access({"localhost", "127.0.0.1", "::1"}, (), {}), host=host) == answered


def test_web_pages_may_ask_only_if_they_are_named() -> None:
    access = Access(None, {PAGE}, {})
    assert status(access) == 200
    assert status(access, origin=PAGE) == 200
    assert status(access, origin="null") == 403
    assert status(access, origin="https://other.example") == 403
    assert access.cors({"origin": PAGE})["access-control-allow-origin"] == PAGE
    assert access.cors({"origin": "https://other.example"}) == {}


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({"authorization": "Bearer one"}, 200),
        ({"authorization": "bearer two"}, 200),
        ({"x_api_key": "two"}, 200),
        ({"x_api_key": "three"}, 401),
        ({"authorization": "Basic one"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({}, 401),
    ],
)
def test_a_key_is_a_bearer_token_or_has_its_own_header(headers: dict[str, str], answered: int) -> None:
    access = Access(None, (), {"one": Key(name="first"), "two": Key(name="second")})
    assert status(access, **headers) == answered


@given(st.text(max_size=30))
def test_no_header_is_taken_for_a_key_that_is_not_one(text: str) -> None:
    access = Access(None, (), {"key-of-somebody": Key(name="somebody")})
    assert status(access, authorization=text, x_api_key=text) == (200 if text == "key-of-somebody" else 401)


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running(origins=(PAGE,), body_limit_bytes=2000, body_timeout_s=0.3, strict=True) as one:
        yield one


@pytest.mark.anyio
async def test_a_gateway_keeps_other_names_and_pages_away(gateway: Running) -> None:
    path = "/v1/models"
    assert (await ask(gateway.port, path)).status == 200
    rebound = await ask(gateway.port, path, headers=["Host: rebound.example"])
    assert (rebound.status, rebound.json["error"]["code"]) == (403, "host_refused")
    assert (await ask(gateway.port, path, headers=["Origin: https://other.example"])).status == 403
    allowed = await ask(gateway.port, path, headers=[f"Origin: {PAGE}"])
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    preflight = ["Access-Control-Request-Method: POST", f"Origin: {PAGE}"]
    asked = await ask(gateway.port, "/v1/chat/completions", method="OPTIONS", headers=preflight)
    assert (asked.status, asked.headers["access-control-allow-methods"]) == (204, "POST")


@pytest.mark.anyio
async def test_bodies_have_a_bound_in_length_and_in_time(gateway: Running) -> None:
    path = "/v1/chat/completions"
    long = await ask(gateway.port, path, chat("fake", stop="x" * 2000))
    assert (long.status, long.json["error"]["code"]) == (413, "body_too_long")
    async with asking(gateway.port, path, b"", headers=["Content-Length: 10"], method="POST") as request:
        slow = await request.response()
    assert (slow.status, slow.json["error"]["code"]) == (408, "body_timeout")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "parse_error"), (b"[]", "invalid_request"), (b'{"messages":[]}', "invalid_params")]
)
async def test_a_body_that_is_no_request_is_refused(gateway: Running, body: bytes, code: str) -> None:
    response = await ask(gateway.port, "/v1/chat/completions", body)
    assert (response.status, response.json["error"]["code"]) == (400, code)


@pytest.mark.anyio
async def test_paths_and_methods_that_are_not_there_are_told(gateway: Running) -> None:
    assert (await ask(gateway.port, "/v1/audio/speech", {})).json["error"]["code"] == "not_served"
    assert (await ask(gateway.port, "/v1/chat/completions")).status == 405
    assert (await ask(gateway.port, "/", method="HEAD")).status == 200


@pytest.mark.anyio
async def test_strict_refuses_what_would_change_nothing(gateway: Running) -> None:
    response = await ask(gateway.port, "/v1/chat/completions", chat("fake", user="me"))
    assert (response.status, response.json["error"]["param"]) == (400, "user")


@pytest.mark.anyio
async def test_a_client_cannot_look_about_in_the_file_system(gateway: Running) -> None:
    for name in ("/etc", "../secret", "~/models", "./here"):
        response = await ask(gateway.port, "/v1/chat/completions", chat(name))
        assert (response.status, response.json["error"]["code"]) == (404, "model_not_found")
