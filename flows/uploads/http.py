"""Events pushed over HTTP: Ceph's topics, MinIO's webhooks. A 200 means that the event is in the database."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from models.errors import DigitizeError, ReasonCode

_log = logging.getLogger("digitize.push")
_MOST_BYTES = 1 << 20
_PATIENCE_S = 20.0

Take = Callable[[bytes], None]
"""Notes a message. Raises DigitizeError when that is not possible now."""


@contextmanager
def receiving(host: str, port: int, token: str, take: Take) -> Iterator[int]:
    """Listen while the context lasts; yields the port.

    Every request must show the token, as `Authorization: Bearer TOKEN` or as the path `/events/TOKEN` (Ceph sends no
    headers of its own). `GET /health` answers without.

    Raises DigitizeError(spec_invalid) without a token, or when the port is taken.
    """
    if not token:
        raise DigitizeError(
            ReasonCode.SPEC_INVALID,
            "expected a token for pushed events, found none",
            "Set DIGITIZE_UPLOADS_PUSH_TOKEN: who may push may start runs.",
        )
    try:
        server = ThreadingHTTPServer((host, port), _handler(token, take))
    except OSError as error:
        message = f"expected a free port for pushed events, found {host}:{port}: {error.strerror}"
        raise DigitizeError(ReasonCode.SPEC_INVALID, message, "Choose another DIGITIZE_UPLOADS_PUSH_PORT.") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="push", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(token: str, take: Take) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Health."""
            self._answer(200 if self.path == "/health" else 404)

        def do_POST(self) -> None:
            """One event."""
            length = self.headers.get("Content-Length", "")
            if not self._allowed():
                self._answer(401)
            elif not (length.isascii() and length.isdigit()):
                self._answer(411)
            elif int(length) > _MOST_BYTES:
                self._answer(413)
            else:
                body = self.rfile.read(int(length))
                try:
                    take(body)
                except DigitizeError as error:
                    _log.warning("a pushed event was not taken: %s", error)
                    self._answer(503)
                else:
                    self._answer(200)

        def _allowed(self) -> bool:
            shown = [self.headers.get("Authorization", "").removeprefix("Bearer ")]
            shown += [self.path.removeprefix("/events/").partition("?")[0]]
            return any(hmac.compare_digest(each.encode(), token.encode()) for each in shown)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status >= 400:
                self.send_header("Connection", "close")  # the body was not read
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the path may hold the token."""

    return Handler
