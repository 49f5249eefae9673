"""Access is decided by the Host and Origin headers, which keep web pages away, and by keys."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from ..surfaces.faults import Fault, Refused
from .caller import Caller
from .keys import ANYBODY, Key

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Decides by its headers whether a request is taken, and who asks.

    hosts: Names that ``Host`` may have; None takes any, as on a socket that no browser reaches.
    origins: Those of web pages that may ask, beside the gateway's own page. A request without ``Origin`` comes from no
        other page.
    keys: Empty where none is asked for.
    clock_ns: For quotas; a clock that never goes back.
    """

    def __init__(
        self,
        hosts: Iterable[str] | None,
        origins: Iterable[str],
        keys: Mapping[str, Key],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origins)
        self._callers = [(_digest(text), Caller(key, clock_ns)) for text, key in keys.items()]
        self._anybody = Caller(ANYBODY, clock_ns)

    def check(self, headers: Mapping[str, str]) -> Caller:
        """Return who asks. Raises ``Refused`` unless the request may be answered."""
        self.check_origin(headers)
        return self._caller(_key_of(headers)) if self._callers else self._anybody

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raise ``Refused`` for a request of a web page that may not ask."""
        # A page whose name resolves to this machine sends its own name.
        if self._hosts is not None and _name_of(headers.get("host", "")) not in self._hosts:
            raise Refused(
                Fault(403, "host_refused", f"the Host {headers.get('host', '')!r} is not one of this gateway")
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not _is_own(origin, headers.get("host", "")):
            raise Refused(Fault(403, "origin_refused", f"pages of {origin!r} may not ask; --allow-origin names some"))

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers by which a browser lets a page of an allowed origin read the answer."""
        origin = headers.get("origin")
        if origin is None or origin not in self._origins:
            return {}
        return {"access-control-allow-origin": origin, "access-control-expose-headers": "*", "vary": "origin"}

    def _caller(self, key: str) -> Caller:
        # Digests have one length, and all are compared, so that the time tells nothing of a key.
        given = _digest(key)
        found = [caller for digest, caller in self._callers if hmac.compare_digest(given, digest)]
        if not found:
            raise Refused(Fault(401, "unauthorized", "a key is needed, as a Bearer token or in x-api-key"))
        return found[0]


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""


def _is_own(origin: str, host: str) -> bool:
    """Whether a page came from this gateway: browsers send the ``Host`` that they loaded it from as its origin."""
    scheme, separator, place = origin.partition("://")
    return bool(separator and host) and scheme in ("http", "https") and place.lower() == host.lower()


def _key_of(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
