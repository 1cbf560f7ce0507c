"""Who may use the admin port, and for what: tokens and their scopes, Host and Origin, how often.

Whoever can open the socket in the state folder may do everything. Over TCP a request must carry a token, also
one from this machine. There are no cookies, so another site's page in the operator's browser has nothing to
send; that it reaches us at all is refused by its Origin, and by the Host where its name leads to us.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import attrs

from elemta.runtime import RateLimiter, WallClock, address_block

from .problems import Problem
from .tokens import ApiToken, Scope

REQUESTS = 50.0
"""Per second and token, in the long run."""
REQUEST_BURST = 500.0
FAILURES = 1.0
"""Wrong tokens of one address block per second that are told; a right token is never refused for them, so
that nobody can lock another out."""
FAILURE_BURST = 100.0


@attrs.frozen
class Access:
    """Who makes a request, and what he may do."""

    name: str
    """Of the token; `operator` for the token file, `local` for the socket."""
    scopes: frozenset[Scope]


LOCAL = Access("local", frozenset(Scope))
OPERATOR = Access("operator", frozenset(Scope))


def _no_tokens(token: bytes, now: float) -> ApiToken | None:
    """There is no file of tokens."""
    return None


@attrs.define(eq=False)
class Guard:
    """Decides about one request by its headers."""

    token: str
    """The operator's."""
    hosts: frozenset[str]
    """Names that a Host header may carry (against DNS rebinding), lower case, without port."""
    clock: WallClock
    find: Callable[[bytes, float], ApiToken | None] = _no_tokens
    """The token with scopes that this is, if it is one."""
    on_refused: Callable[[str, str], None] = lambda peer, reason: None
    """Told of requests without the right to what they ask for; not of each in a flood."""
    _requests: RateLimiter[str] = attrs.field(init=False)
    _failures: RateLimiter[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._requests = RateLimiter(REQUESTS, REQUEST_BURST, clock=self.clock, keys=1000)
        self._failures = RateLimiter(FAILURES, FAILURE_BURST, clock=self.clock, keys=10_000)

    def admit(
        self, headers: dict[bytes, bytes], *, peer: str, trusted: bool, reached: str = ""
    ) -> Access | None:
        """Who asks; None: somebody without a token, who may see what is open to all.

        `reached` is our address that the connection came to: no stranger's name leads to a request for it.

        Raises:
          Problem: 401 wrong token, 403 another site's page, 421 another name of ours, 429 too much.
        """
        if trusted:
            return LOCAL
        hosts = self.hosts | {reached} if reached else self.hosts
        if _host_of(headers.get(b"host", b"").decode("latin-1")) not in hosts:
            raise Problem(421, "this server has another name: see names in [admin]")
        origin = headers.get(b"origin")
        if origin is not None and _host_of(origin.decode("latin-1").partition("://")[2]) not in hosts:
            self._tell(peer, "another site's page")
            raise Problem(403, "requests from other sites are refused")
        if b"authorization" not in headers:
            return None
        access = self._holder(headers[b"authorization"])
        if access is None:
            raise self.stranger(peer, "wrong token")
        if not self._requests.allow(access.name):
            wait = self._requests.wait_time(access.name)
            raise Problem(429, "too many requests with this token", {"Retry-After": f"{int(wait) + 1}"})
        return access

    def stranger(self, peer: str, reason: str = "no token") -> Problem:
        """The refusal of a request that needs a token and has none that is right."""
        block = address_block(peer, 32, 64)
        if not self._failures.allow(block):
            wait = self._failures.wait_time(block)
            return Problem(
                429, "too many requests without a right token", {"Retry-After": f"{int(wait) + 1}"}
            )
        self._tell(peer, reason)
        return Problem(
            401,
            "a bearer token is needed: see 'elemta token', and token_file in [admin]",
            {"WWW-Authenticate": "Bearer"},
        )

    def check_scope(self, access: Access, scope: Scope, *, peer: str) -> None:
        """Raises:
        Problem: 403, the token is for something else.
        """
        if scope not in access.scopes:
            if self._failures.allow(access.name):
                self._tell(peer, f"{access.name} has no scope {scope}")
            raise Problem(
                403,
                f"this needs a token with the scope {scope}",
                {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},  # RFC 6750 3.1
            )

    def _holder(self, authorization: bytes) -> Access | None:
        scheme, _, presented = authorization.partition(b" ")
        presented = presented.strip()
        if scheme.lower() != b"bearer":  # RFC 9110 11.1: without regard to case
            return None
        if hmac.compare_digest(presented, self.token.encode()):
            return OPERATOR
        found = self.find(presented, self.clock.time())
        return None if found is None else Access(found.name, found.rights)

    def _tell(self, peer: str, reason: str) -> None:
        self.on_refused(peer, reason)


def _host_of(authority: str) -> str:
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()
