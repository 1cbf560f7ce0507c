"""Asks the configured name servers, one after the other, within deadlines."""

from __future__ import annotations

from pathlib import Path
from random import Random, SystemRandom

import attrs
import trio

from elemta.config import DnsConfig

from .answers import Answer, RecordKind, Status
from .exchange import ExchangeFailed, exchange_tcp, exchange_udp
from .names import normalize_name
from .resolver import Resolver
from .servers import RESOLV_CONF, Server, ServerList, read_resolv_conf
from .wire import Question, Response, Verdict, make_question

MAX_CONCURRENT = 256
"""Questions at once, each with a socket; more wait their turn within their deadline (RELIABILITY D7)."""


@attrs.frozen
class DnsStatistics:
    """Counts since the start."""

    questions: int
    """Sent to a server, repeated ones included."""
    over_tcp: int
    silences: int
    """Questions that a server did not answer in time."""
    failures: int
    """Questions that a server answered with an error, or that could not be sent."""
    waiting: int
    """Queries that wait for a free socket now."""


class DnsResolver(Resolver):
    """Recursive look-ups through name servers; no cache.

    Name servers come from the configuration, else from resolv.conf, read once.

    Raises:
      ValueError: a configured name server is not given by its address.
    """

    def __init__(
        self, config: DnsConfig, *, random: Random | None = None, resolv_conf: Path = RESOLV_CONF
    ) -> None:
        self._query_timeout = config.query_timeout
        self._timeout = config.timeout
        self._servers = ServerList(config.nameservers or read_resolv_conf(resolv_conf))
        # RFC 6840 §5.7, RFC 7672 §2.1: the bit is worth what the resolver and the way to it are worth
        self._trust_ad = self._servers.all_within(config.trust_ad)
        # RFC 5452 §9.2: ids must not be guessable, so the default is the kernel's randomness
        self._random = random or SystemRandom()
        self._limiter = trio.CapacityLimiter(MAX_CONCURRENT)
        self._questions = self._over_tcp = self._silences = self._failures = 0

    def statistics(self) -> DnsStatistics:
        return DnsStatistics(
            self._questions,
            self._over_tcp,
            self._silences,
            self._failures,
            self._limiter.statistics().tasks_waiting,
        )

    async def query(self, name: str, kind: RecordKind) -> Answer:
        normalized = normalize_name(name)
        if normalized is None:
            await trio.lowlevel.checkpoint()
            return Answer(Status.NXDOMAIN, detail="not a name that DNS can hold")
        troubles: list[str] = []
        with trio.move_on_after(self._timeout):
            async with self._limiter:
                answer = await self._ask_servers(normalized, kind, troubles)
                if answer is not None:
                    return answer
        reasons = "; ".join(troubles[-3:] or ["no socket was free in time"])
        return Answer(Status.FAILED, canonical=normalized, detail=f"{normalized} {kind}: {reasons}")

    async def _ask_servers(self, name: str, kind: RecordKind, troubles: list[str]) -> Answer | None:
        """The first answer of any server, or `None`; silent servers are asked again until cancelled."""
        servers = self._servers.in_order(trio.current_time())
        while servers:
            silent = []
            for server in servers:
                response = None
                troubles.append(f"{server.address} did not answer")  # stays, if cancelled meanwhile
                with trio.move_on_after(self._query_timeout):
                    response = await self._ask(server, name, kind)
                if response is None:
                    silent.append(server)
                    self._silences += 1
                    server.silent(trio.current_time())
                    continue
                answer = self._judge(server, response)
                if answer.status is not Status.FAILED:
                    return answer
                self._failures += 1
                troubles[-1] = f"{server.address} said {answer.detail}"
            servers = silent
        return None

    def _judge(self, server: Server, response: Response) -> Answer:
        if response.refused:
            server.demote(trio.current_time())
        else:
            server.answered()
        assert response.answer is not None
        return response.answer

    async def _ask(self, server: Server, name: str, kind: RecordKind) -> Response:
        """One server's response; a failure to reach it is one, too."""
        try:
            response = await self._exchange(server, self._question(name, kind, edns=True))
            if response.verdict is Verdict.NO_EDNS:
                response = await self._exchange(server, self._question(name, kind, edns=False))
        except OSError as error:
            return _unreachable(error.strerror or type(error).__name__)
        except ExchangeFailed as error:
            return _unreachable(str(error))
        return response

    async def _exchange(self, server: Server, question: Question) -> Response:
        self._questions += 1
        response = await exchange_udp(server.address, question, trust_ad=self._trust_ad)
        if response.verdict is Verdict.TRUNCATED:
            self._over_tcp += 1
            response = await exchange_tcp(server.address, question, trust_ad=self._trust_ad)
        return response

    def _question(self, name: str, kind: RecordKind, *, edns: bool) -> Question:
        return make_question(name, kind, self._random.getrandbits(16), edns=edns)


def _unreachable(reason: str) -> Response:
    return Response(Verdict.ANSWERED, Answer(Status.FAILED, detail=reason), refused=True)
