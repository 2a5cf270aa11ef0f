"""A proxy before an S3 server that answers wrongly now and then: errors, delays, half a body, other bytes."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>"


class FaultyS3:
    """Address: `url`. `share` of the requests meet `fault`; `planted` counts them."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self.target = urlsplit(target).netloc
        self.fault, self.share = "", 0.0
        self.planted: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                owner.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _meets(self, request: BaseHTTPRequestHandler) -> str:
        read_only = self.fault in ("half", "wrong")
        is_object = request.command == "GET" and "list-type" not in request.path
        with self._lock:
            if self._random.random() >= self.share or (read_only and not is_object):
                return ""
            self.planted[self.fault] += 1
        return self.fault

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        fault = self._meets(request)
        if fault in ("500", "503", "expired"):
            status, code = {"500": (500, "InternalError"), "503": (503, "SlowDown"), "expired": (403, "ExpiredToken")}[
                fault
            ]
            self._answer(request, status, {"Content-Type": "application/xml"}, _ERROR.format(code=code).encode())
            return
        if fault == "slow":
            time.sleep(0.5)
        connection = http.client.HTTPConnection(self.target, timeout=60)
        connection.request(request.command, request.path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        data, headers = answer.read(), {k: v for k, v in answer.getheaders() if k.lower() not in _OWN}
        connection.close()
        if fault == "late":  # obeyed, and the answer is an error: the client cannot know
            self._answer(request, 500, {}, _ERROR.format(code="InternalError").encode())
            return
        if fault == "wrong" and data:
            data = bytes([data[0] ^ 0x55]) + data[1:]
        length = answer.headers.get("Content-Length", str(len(data))) if request.command == "HEAD" else None
        self._answer(request, answer.status, headers, data, cut=fault == "half", length=length)

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        data: bytes,
        cut: bool = False,
        length: str | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", length or str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            request.wfile.flush()
            request.close_connection = True
            request.connection.close()


_OWN = {"content-length", "connection", "transfer-encoding", "date", "server"}
