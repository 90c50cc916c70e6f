"""A command that is watched, and the endpoints that hear of it: webhooks and a collector."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crmcom_sandbox import API_KEY, PASSWORD, PUBLIC_KEY, USERNAME, Faults, World, serve

CRMCOM = str(Path(sys.executable).parent / "crmcom")
LOGIN = {
    "SOURCES__CRMCOM__USERNAME": USERNAME,
    "SOURCES__CRMCOM__PASSWORD": PASSWORD,
    "SOURCES__CRMCOM__API_KEY": PUBLIC_KEY,
    "SOURCES__CRMCOM__SECRET_KEY": API_KEY,
}


@dataclass
class Receiver:
    """What was POSTed to a server on loopback; `answers`: statuses to give before 200."""

    url: str = ""
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def objects(self):
        return [json.loads(body) for _, body in self.bodies]


@contextmanager
def receiving(*answers):
    receiver = Receiver(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.bodies.append((self.path, body))
            self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Called:
    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Each line of stderr, which all are to be JSON."""
        return [json.loads(line) for line in self.err.splitlines()]

    def events(self, name, **fields):
        found = [line for line in self.lines if line["event"] == name]
        return [line for line in found if fields.items() <= line.items()]


def environ(home, **more):
    ours = ("SOURCES__", "TRANSFORMS__", "OTEL_", "CRMCOM_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return env | {"HOME": str(home), "COLUMNS": "200"} | more


def call(*args, cwd, **more):
    found = subprocess.run(
        [CRMCOM, *map(str, args)],
        cwd=cwd,
        env=environ(cwd, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    return Called(found.returncode, found.stdout, found.stderr)


@pytest.fixture(scope="session")
def server():
    with serve(World.generate(contacts=40, activities=120), behaviour="live") as running:
        yield running


@dataclass
class Watched:
    """One run that everybody watches: its lines, its result, its webhook, its collector."""

    called: Called
    hook: Receiver
    collector: Receiver

    @property
    def result(self):
        return json.loads(self.called.out)


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    """A sync with a login, marts and failing replies."""
    world = World.generate(contacts=40, activities=120)
    faults = Faults(rate=0.2, seed=3, kinds=("500", "429"), retry_after_s=0)
    folder = tmp_path_factory.mktemp("watched")
    with (
        serve(world, behaviour="live", faults=faults) as server,
        receiving() as hook,
        receiving() as collector,
    ):
        called = call(
            *("sync", "--base-url", server.base_url, "--json", "--log-format", "json"),
            *("--on-success", f"{hook.url}/services/T0/B0/very-secret-token"),
            *("--on-failure", "exit 9"),
            cwd=folder,
            **LOGIN,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
        )
    assert called.code == 0, called.err
    return Watched(called, hook, collector)
