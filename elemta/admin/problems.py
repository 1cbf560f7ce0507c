"""What a request is refused with: problem documents (RFC 9457), the same for every path."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class _Detail(msgspec.Struct):
    detail: str


class Problem(Exception):
    """Ends a request with this status. The text is for the client: it says nothing that he may not know."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    def document(self) -> bytes:
        """The problem in JSON, of the type `about:blank`: the status says its kind (RFC 9457 4.2.1)."""
        return msgspec.json.encode(
            {
                "type": "about:blank",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
            }
        )

    def response(self) -> Response:
        """The whole answer."""
        return Response(self.document(), self.status, self.headers, media_type=MEDIA_TYPE)


class BadRequest(Problem):
    """400: the client should not ask the same again."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


class NotFound(Problem):
    """404: what the path or the body names is not there."""

    def __init__(self, detail: str) -> None:
        super().__init__(404, detail)


class Conflict(Problem):
    """409: it does not go with what is there."""

    def __init__(self, detail: str) -> None:
        super().__init__(409, detail)


def detail_of(body: bytes) -> str:
    """The text for people in an answer that is a problem; whatever else it is, as it is."""
    try:
        return msgspec.json.decode(body, type=_Detail).detail
    except msgspec.DecodeError:
        return body.decode("utf-8", "replace").strip()
