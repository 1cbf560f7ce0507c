"""Who the client of a session is, as far as that is known by now, and what it is offered therefore."""

from __future__ import annotations

import attrs

from elemta import smtp
from elemta.auth import AuthClient
from elemta.config import ListenerTls
from elemta.events import SessionAuthenticated, SessionForwarded
from elemta.mail import Identity, Origin, SessionId, TlsFacts
from elemta.policy import Client
from elemta.runtime import SocketAddress

from .context import SessionContext
from .forwarding import ForwardedClient
from .judge import Judge
from .offers import Situation
from .panel import Panel, concerns
from .relay import is_loopback, is_trusted


class Visitor:
    """The client. It changes as TLS begins, it authenticates, or a proxy says that it is another one."""

    __slots__ = (
        "_connection",
        "_context",
        "_forwarded",
        "_session",
        "identity",
        "judge",
        "panel",
        "peer",
        "port",
        "tls",
        "trusted",
        "via",
    )

    def __init__(
        self,
        context: SessionContext,
        connection: smtp.ServerConnection,
        session: SessionId,
        peer: str,
        port: int,
    ) -> None:
        self._context = context
        self._connection = connection
        self._session = session
        self._forwarded = ForwardedClient()
        """What XCLIENT said."""
        self.peer = peer
        """The client's address."""
        self.port = port
        self.via = peer
        """Address of the connection itself: a proxy's, where the client is another one."""
        self.tls: TlsFacts | None = None
        self.identity: Identity | None = None
        """Who the client proved to be."""
        self.trusted = False
        """It may send anywhere for its address."""
        self.judge: Judge | None = None
        """None: nothing is asked about this client."""
        plugins = context.services.plugins
        self.panel = Panel(plugins) if plugins is not None and concerns(plugins) else None
        """The plugins that are asked about this session; None: there are none."""
        self._meet()

    @property
    def may_relay(self) -> bool:
        """Whether the client may send anywhere: for its address, or for its account."""
        return self.trusted or self.identity is not None

    @property
    def behind(self) -> SocketAddress | None:
        """The client, where a proxy is in between."""
        return None if self.peer == self.via else (self.peer, self.port)

    def origin(self, hello: str, protocol: str) -> Origin:
        """The client as messages keep it, without what the transaction adds."""
        forwarded = self._forwarded
        protocol = forwarded.protocol or protocol
        if protocol != "SMTP":  # RFC 3848 has no variants of it
            protocol += ("S" if self.tls else "") + ("A" if self.identity else "")
        return Origin(
            session=self._session,
            peer=self.peer,
            port=self.port,
            hello=forwarded.hello or hello,
            protocol=protocol,
            listener=self._context.listener.name,
            tls=self.tls,
            identity=self.identity,
        )

    def auth_client(self) -> AuthClient:
        """The client as authentication sees it."""
        tls = self.tls
        return AuthClient(
            peer=self.peer,
            tls=tls is not None,
            channel_binding=tls.end_point if tls else None,
            tls_unique=tls.unique if tls else None,
            loopback=is_loopback(self.via) and is_loopback(self.peer),
            certificate=tls.peer_name if tls and tls.verified and tls.peer_name else None,
        )

    # --- What changes it --------------------------------------------------------------------------------

    def stand_for(self, source: smtp.ProxyEndpoint, tls: smtp.ProxyTls | None) -> None:
        """A PROXY header says who the client is, and whether it speaks TLS with the proxy."""
        mapped = source.address.ipv4_mapped if source.address.version == 6 else None
        self.peer = str(mapped or source.address)
        self.port = source.port
        if tls is not None:
            self.tls = TlsFacts(tls.version, tls.cipher, tls.verified)
        self._meet()

    def become(self, said: ForwardedClient) -> None:
        """XCLIENT says that the client is another one."""
        self._forwarded = client = said.over(self._forwarded)
        self.peer = client.peer or self.peer
        self.port = self.port if client.port is None else client.port
        self.identity = Identity(client.account, "XCLIENT") if client.account else None
        self._meet()
        self.tell_forwarded("xclient", attrs.evolve(client, peer=self.peer, port=self.port))
        if self.identity is not None:
            self._tell_authenticated(self.identity, "xclient")

    def tls_started(self, facts: TlsFacts) -> None:
        """Forget who has authenticated in clear text (RFC 3207 §4.2)."""
        self.tls = facts
        self._set_identity(None)
        self._announce()

    def authenticated(self, identity: Identity, credential: str) -> None:
        """The client has proved who it is (RFC 4954)."""
        self._set_identity(identity)
        self._tell_authenticated(identity, credential)
        self._announce()

    def _set_identity(self, identity: Identity | None) -> None:
        self.identity = identity
        if self.judge is not None:
            self.judge.identify(identity)

    def _meet(self) -> None:
        """The client's address is known now, or another one."""
        context = self._context
        self.trusted = is_trusted(self.peer, context.config.relay.networks)
        self.judge = None
        gate = context.services.gate
        if gate is not None and not self.trusted:  # nothing is ever asked about those of relay.networks
            listener = context.listener
            client = Client(self.peer, self.port, listener.name, listener.role, identity=self.identity)
            self.judge = Judge(gate, context.services, self._session, client)
        self._announce()

    def _announce(self) -> None:
        """Let the machine offer what is right now."""
        context = self._context
        authenticator = context.authenticator
        proxies = context.config.proxies
        client = self.auth_client()
        situation = Situation(
            tls=self.tls is not None,
            # RFC 3207 §4.2: not within TLS; and only where there is a certificate now
            starttls=self.tls is None
            and context.listener.tls is ListenerTls.STARTTLS
            and context.services.has_certificate,
            may_submit=self.may_relay,
            mechanisms=() if authenticator is None else authenticator.mechanisms(client),
            under_tls=() if authenticator is None else authenticator.mechanisms_under_tls(client),
            xclient=bool(proxies.xclient) and is_trusted(self.via, proxies.xclient),
            xforward=bool(proxies.xforward) and is_trusted(self.via, proxies.xforward),
        )
        self._connection.capabilities = context.offers.at(situation, context.services.clock.time())

    # --- What is told of it -----------------------------------------------------------------------------

    def _tell_authenticated(self, identity: Identity, credential: str) -> None:
        services = self._context.services
        services.bus.publish(
            SessionAuthenticated(
                time=services.clock.time(),
                session=self._session,
                account=identity.name,
                mechanism=identity.mechanism,
                credential=credential,
            )
        )

    def tell_forwarded(self, by: str, client: ForwardedClient) -> None:
        """Publish whose the session is, or whose message comes."""
        services = self._context.services
        services.bus.publish(
            SessionForwarded(
                time=services.clock.time(),
                session=self._session,
                by=by,
                via=self.via,
                peer=client.peer or "",
                port=client.port or 0,
                hello=client.hello or "",
                name=client.name or "",
                account=client.account or "",
                protocol=client.protocol or "",
                ident=client.ident or "",
            )
        )
