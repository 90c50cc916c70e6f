"""The sandbox over HTTP on 127.0.0.1: in a thread of this process, or in a process of its own."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import ABORT, create_app
from .behaviour import Behaviour
from .control import CONTROL_PATH
from .faults import Faults
from .routes import BASE_PATH
from .sandbox import Sandbox
from .sessions import API_KEY, Credentials
from .world import World

# A connection closed with this goes away with RST: the peer sees a reset, not an end.
LINGER_NOT = b"\x01\x00\x00\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class Address:
    """Where a sandbox listens, and the key that opens it."""

    base_url: str
    control_url: str
    api_key: str

    @classmethod
    def at(cls, port: int, api_key: str) -> Self:
        root = f"http://127.0.0.1:{port}"
        return cls(root + BASE_PATH, root + CONTROL_PATH, api_key)


@dataclass(frozen=True)
class Server(Address):
    """A sandbox in this process: its world and its switches are at hand."""

    sandbox: Sandbox

    @property
    def world(self) -> World:
        return self.sandbox.world


@dataclass(frozen=True)
class ServerProcess(Address):
    """A sandbox in a process of its own; the control routes lead to its world."""

    pid: int


@contextmanager
def serve(
    world: World | None = None,
    *,
    behaviour: Behaviour | str = "reference",
    faults: Faults | None = None,
    credentials: Credentials | None = None,
    port: int = 0,
) -> Iterator[Server]:
    """Serves a world (a generated one by default) from a thread until the block ends."""
    credentials = credentials or Credentials()
    app = create_app(
        World.generate() if world is None else world,
        behaviour=behaviour,
        faults=faults,
        credentials=credentials,
    )
    listener = listen(port)
    server = SwiftServer(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    address = Address.at(listener.getsockname()[1], credentials.api_key)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.002)
        yield Server(address.base_url, address.control_url, address.api_key, app.state.sandbox)
    finally:
        server.stop()
        thread.join()


@contextmanager
def serve_process(*options: str, api_key: str = API_KEY) -> Iterator[ServerProcess]:
    """Runs `python -m crmcom_sandbox` with these options until the block ends.

    The process also ends when this one does, however that ends.
    """
    command = [sys.executable, "-m", "crmcom_sandbox", "--exit-with-stdin", *options]
    command += ["--api-key", api_key]
    with subprocess.Popen(  # noqa: S603 - our own module, arguments as a list
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the sandbox did not start; its error is on stderr")
            yield ServerProcess(**json.loads(line))
        finally:
            process.terminate()


def listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


class SwiftServer(uvicorn.Server):
    """Stops at once and drops what is under way: tests start and stop hundreds of servers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self._stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)

    def stop(self) -> None:
        """From any thread."""
        if self.started:
            self._loop.call_soon_threadsafe(self._stopped.set)


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """Without uvicorn's own `Date` (the world's clock is shown instead), access log or lifespan."""
    sandbox: Sandbox = app.state.sandbox  # type: ignore[attr-defined]
    return uvicorn.Config(
        app,
        http=partial(CountedProtocol, sandbox),  # type: ignore[arg-type]
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        ws="none",
    )


class CountedProtocol(HttpToolsProtocol):
    """Counts connections, and lets a fault reset its own."""

    def __init__(self, sandbox: Sandbox, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sandbox = sandbox

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._sandbox.counters.connections += 1
        self._sandbox.counters.open_connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._sandbox.counters.open_connections -= 1

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[ABORT] = self._reset  # type: ignore[literal-required]

    def _reset(self) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.transport.abort()
