"""Who may talk to the page: only itself. A page of another site, open in the same browser, must not drive it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MARK = "x-ndrnn"
"""The header that whatever changes something must carry. A foreign page cannot send it without being asked for
permission first (CORS), and none is ever given."""

_HEADERS = {
    # everything from here, nothing written into the page itself; pictures that the page makes are blobs
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def names_of(host: str) -> frozenset[str]:
    """What the page's address may be called if it listens at ``host``; numbers are looked at separately."""
    known = {"localhost", host.lower()}
    if not is_local(host):
        known |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(known)


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens at ``host``."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses requests that other sites make, and adds the headers that keep the page by itself.

    A name that resolves to this machine does not make a page of it (DNS rebinding): ``Host`` must be one of ``names``,
    or an address in numbers, which must be of this machine alone where ``local``.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], local: bool) -> None:
        self.app, self.names, self.local = app, frozenset(names), local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reason = self._refusal(scope["method"], scope["path"], Headers(scope=scope))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if reason is None:
            await self.app(scope, receive, guarded)
        else:
            await JSONResponse({"error": reason}, 403)(scope, receive, guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> str | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return f"this page is not {', '.join(hosts) or 'without a name'}: use the address that ndrnn serve told"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return f"requests from {origin} are not answered"
        # a link from elsewhere may open the page, nothing more
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and path != "/":
            return "requests from another site are not answered"
        if method not in ("GET", "HEAD") and MARK not in headers:
            return f"what changes something must carry the header {MARK}"
        return None

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host.lower())
        if name in self.names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.local


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
