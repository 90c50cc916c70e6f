"""Servers on 127.0.0.1 that are not the API, or do not answer as one."""

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    says = (200, {}, b"")

    def do_GET(self):
        status, headers, body = self.says
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value.replace("{path}", self.path))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Tests are quiet."""


@contextmanager
def saying(status, headers, body):
    """Says the same to every GET; `{path}` in a header is what was asked for."""
    handler = type("Handler", (_Handler,), {"says": (status, headers, body)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v2"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent():
    """Accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"


@contextmanager
def refusing():
    """Nobody listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}/v2"


@contextmanager
def greeting(words=b"SSH-2.0-OpenSSH_9.6\r\n"):
    """Speaks first, and not HTTP."""

    def greet():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(words)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def spoken_to_in_tls():
    """Speaks plain HTTP, and is asked for TLS."""
    with saying(200, JSON, b"{}") as url:
        yield url.replace("http://", "https://")


def patience_s(start):
    """The time-out to ask with: short only where nothing will come, since the machine is slow."""
    return 0.3 if start is silent else 20


_OTHERS = b'{"content": [{"uuid": "1"}, "2"], "paging": {"page": 1, "size": 100, "total": 2}}'


def not_the_api():
    """Name, how to start it, what is to be said of it, and the exit code of a check."""
    return [
        ("refuses connections", refusing, "refused, nothing listens", 4),
        ("never answers", silent, "time-out", 4),
        ("another protocol", greeting, "does not speak HTTP", 4),
        ("no TLS", spoken_to_in_tls, "does not speak TLS", 4),
        *(
            (name, lambda s=says: saying(*s), told, code)
            for name, says, told, code in (
                ("another product", (200, JSON, b'{"items": []}'), "another product", 4),
                ("another's records", (200, JSON, _OTHERS), "no record of the list has an id", 4),
                ("a list", (200, JSON, b"[1, 2]"), "another product", 4),
                ("a login page", (200, HTML, b"\n<!doctype html>Sign in"), "web page", 4),
                ("no such path", (404, JSON, b'{"message": "no"}'), "no such endpoint", 2),
                ("a redirect loop", (302, {"location": "{path}"}, b""), "in a circle", 2),
                ("a login elsewhere", (302, {"location": "https://sso.test/"}, b""), "sso.test", 2),
                ("trouble", (500, JSON, b"{}"), "trouble", 4),
                ("a gateway", (502, HTML, b"<html>"), "502", 4),
                ("slow down", (429, {"retry-after": "3600"}, b"{}"), "3600 s", 4),
                ("no answer at all", (200, {}, b""), "not JSON", 4),
            )
        ),
    ]
