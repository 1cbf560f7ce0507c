"""Talks to the running server over the socket in its state folder; says so when there is none."""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from .errors import NOT_DONE, Trouble

ANSWER_SECONDS = 60.0


class NotRunning(Exception):
    """Nobody answers on the socket."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, state_dir: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._state_dir = state_dir

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(ANSWER_SECONDS)
            # Through the folder's descriptor: the path of a socket may have 108 octets only.
            folder = os.open(self._state_dir, os.O_PATH | os.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{folder}/admin.sock")
            finally:
                os.close(folder)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class AdminClient:
    """Requests to the server of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def get(self, path: str) -> Any:
        """The decoded answer.

        Raises:
          NotRunning: there is no server.
          Trouble: it answered with an error.
        """
        return self._request("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The same with a JSON body."""
        return self._request("POST", path, msgspec.json.encode(body))

    def look(self, path: str) -> tuple[int, str]:
        """Status and text of a probe; raises as `get`."""
        status, _, data = self._exchange("GET", path, None)
        return status, data.decode("utf-8", "replace")

    def _request(self, method: str, path: str, body: bytes | None) -> Any:
        status, reason, data = self._exchange(method, path, body)
        try:
            decoded = msgspec.json.decode(data)
        except msgspec.DecodeError:
            decoded = {"detail": data.decode("utf-8", "replace").strip()}
        if status >= 400:
            raise Trouble(NOT_DONE, str(decoded.get("detail", reason)))
        return decoded

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        connection = _UnixConnection(self._state_dir)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            answer = connection.getresponse()
            data = answer.read()
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            raise NotRunning from error
        except PermissionError as error:
            raise Trouble(
                NOT_DONE,
                f"no right to use the socket in {self._state_dir}: run this as the server's user or as root",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(NOT_DONE, f"the server does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()
        return answer.status, answer.reason, data
