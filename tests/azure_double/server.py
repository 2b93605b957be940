"""A CONNECT proxy that ends TLS itself: every host name behind it is served here."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import BinaryIO, cast

import trustme

from .http import Body, ClientDisconnected, Request, Response

NO_BODY = (204, 304)
REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content"}
Serve = Callable[[Request, Callable[[Response], None]], None]
"""Answers one request by calling its second argument once."""


class Server:
    """Threads, one a connection; keep-alive; bodies stream both ways."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="azure-double", daemon=True)

    @property
    def authority_pem(self) -> bytes:
        """The certificate that clients must trust."""
        return self._authority.cert_pem.bytes()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, plain: socket.socket) -> None:
        connection = plain
        with self._lock:
            self._open.add(plain)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host = self._connect(plain)
            if host is None:
                return
            connection = self._context(host).wrap_socket(plain, server_side=True)
            with self._lock:
                self._open.discard(plain)
                self._open.add(connection)
            with connection.makefile("rb", buffering=1 << 16) as stream:
                while not self._stopping and self._exchange(connection, cast(BinaryIO, stream), host):
                    pass
        except (OSError, ClientDisconnected, ValueError):  # the peer disconnected, or a test did
            return
        finally:
            with self._lock:
                self._open.discard(plain)
                self._open.discard(connection)
            connection.close()

    def _connect(self, plain: socket.socket) -> str | None:
        """Read the CONNECT request and answer it."""
        head = b""
        while b"\r\n\r\n" not in head:
            piece = plain.recv(4096)
            if not piece or len(head) > 1 << 16:
                return None
            head += piece
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if method != "CONNECT":
            plain.sendall(
                b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return None
        plain.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        return target.rsplit(":", 1)[0].lower()

    def _context(self, host: str) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.get(host)
            if context is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.set_alpn_protocols(["http/1.1"])
                self._authority.issue_cert(host).configure_cert(context)
                self._contexts[host] = context
            return context

    def _exchange(self, connection: socket.socket, stream: BinaryIO, host: str) -> bool:
        """Serve one request; return whether the connection stays open."""
        line = stream.readline(1 << 16)
        if not line:
            return False
        method, target, _ = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        headers: dict[str, str] = {}
        while (line := stream.readline(1 << 16)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if hasattr(socket, "TCP_QUICKACK"):
            # Through a proxy, clients send the body once the head is acknowledged: after 40 ms by default.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        body = Body(stream, headers, lambda: connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n"))
        request = Request.parse(method, host, target, headers, body)
        self._serve(request, lambda response: write(connection, request, response))
        body.drain()
        return headers.get("connection", "").lower() != "close"


def write(connection: socket.socket, request: Request, response: Response) -> None:
    """Send a response; reset the connection if the response requires it."""
    body = response.body
    headers = {name.lower(): value for name, value in response.headers.items()}
    whole = isinstance(body, bytes | bytearray | memoryview)
    if response.status not in NO_BODY:
        if whole:
            headers.setdefault("content-length", str(len(cast(bytes, body))))
        elif "content-length" not in headers:
            headers["transfer-encoding"] = "chunked"
    lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Answer')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    silent = request.method == "HEAD" or response.status in NO_BODY
    if whole:
        content = b"" if silent else cast(bytes, body)
        if response.reset:
            if content:
                connection.sendall(head + bytes(content[: len(content) // 2]))
            cut(connection)
        if len(content) < 1 << 16:
            connection.sendall(head + bytes(content))
        else:
            connection.sendall(head)
            connection.sendall(content)
        return
    connection.sendall(head)
    pieces = iter(body)
    try:
        for count, piece in enumerate(pieces):
            if not piece or silent:
                continue
            if response.reset and count:
                cut(connection)
            chunked = "transfer-encoding" in headers
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if "transfer-encoding" in headers and not silent:
            connection.sendall(b"0\r\n\r\n")
    finally:
        close = getattr(pieces, "close", None)
        if close:
            close()


def cut(connection: socket.socket) -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ClientDisconnected("cut on purpose")
