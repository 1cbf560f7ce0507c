"""Asks an authorization server whose token it is (RFC 7662)."""

from __future__ import annotations

import base64
import json
import ssl
from typing import Any
from urllib.parse import quote_plus, urlencode

import attrs
import trio

from elemta.config import AuthConfig

from .exchange import Introspect, TokenOwner, TokensUnavailable
from .keyfile import AuthFilesError, read_private
from .posting import Connect, PostFailed, Request, post, verifying_context
from .prepare import NotPrepared, prepare_name

_MAX_SECRET = 4096


def make_introspection(config: AuthConfig) -> Introspect | None:
    """Who is asked about tokens; None where the configuration has nobody. Reads files.

    Raises:
      AuthFilesError: the secret or the authorities cannot be used.
    """
    if config.introspection is None:
        return None
    authorization = ""
    if config.introspection_client is not None and config.introspection_secret is not None:
        data, _ = read_private(config.introspection_secret, _MAX_SECRET)
        try:
            secret = data.decode("utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise AuthFilesError(config.introspection_secret, ": is not UTF-8") from error
        # RFC 6749 §2.3.1: both are coded like a form first
        pair = f"{quote_plus(config.introspection_client)}:{quote_plus(secret)}"
        authorization = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
    context = None
    if config.introspection.startswith("https:"):
        context = verifying_context(config.introspection_authorities)
    return Introspection(config, authorization, context)


@attrs.frozen(eq=False)
class Introspection:
    """One authorization server. Each question has a connection of its own: logins are rare, and a
    connection that was kept may be broken just then."""

    config: AuthConfig
    authorization: str = attrs.field(repr=False)
    context: ssl.SSLContext | None
    connect: Connect = attrs.field(default=trio.open_tcp_stream, repr=False)

    async def __call__(self, token: str) -> TokenOwner | None:
        """Whose it is; None: nobody's, expired, or not for mail. Cancelled, it leaves nothing behind.

        Raises:
          TokensUnavailable: the server cannot be asked, or gives no answer that makes sense.
        """
        assert self.config.introspection is not None
        form = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
        request = Request(
            self.config.introspection, "application/x-www-form-urlencoded", form, self.authorization
        )
        failure = "no answer in time"
        with trio.move_on_after(self.config.introspection_timeout):
            try:
                answer = await post(request, self.context, self.connect)
            except PostFailed as error:
                failure = str(error)
            else:
                return self._read(answer.status, answer.body)
        raise TokensUnavailable(f"introspection: {failure}")

    def _read(self, status: int, body: bytes) -> TokenOwner | None:
        """What an answer says (RFC 7662 §2.2)."""
        if status != 200:  # §2.3: also 401, where our own name or secret is wrong
            raise TokensUnavailable(f"introspection: status {status}")
        try:
            answer: Any = json.loads(body)  # Any: a stranger's JSON; each part is looked at below
        except (ValueError, RecursionError) as error:
            raise TokensUnavailable("introspection: the answer is no JSON") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
            raise TokensUnavailable("introspection: the answer does not say whether it is active")
        if not answer["active"]:
            return None
        wanted = self.config.introspection_scope
        scope = answer.get("scope")
        if wanted is not None and not (isinstance(scope, str) and wanted in scope.split(" ")):
            return None
        name = answer.get(self.config.introspection_claim)
        if not isinstance(name, str):
            raise TokensUnavailable(f"introspection: no {self.config.introspection_claim} in the answer")
        try:
            return TokenOwner(prepare_name(name))
        except NotPrepared:
            return None
