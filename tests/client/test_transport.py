"""Proxies, certificates and timeouts are what the environment and the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import ssl
import subprocess
import zlib
from pathlib import Path

import certifi
import httpx
import pytest

from crmcom import over_asyncio
from crmcom.errors import SettingsError, Unavailable
from crmcom.network import Headers, proxy_for
from crmcom.retrying import Patience

API = "https://app.crm.com/backoffice/v2"
LOCAL = "http://127.0.0.1:8080/v2"
EACH = pytest.mark.parametrize("kind", ["asyncio", "aiohttp", "httpx"])


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, API, "http://proxy.example:3128"),
        ({"https_proxy": "proxy.example:3128"}, API, "http://proxy.example:3128"),
        ({"ALL_PROXY": "http://proxy.example:3128"}, API, "http://proxy.example:3128"),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, API, None),
        ({"HTTPS_PROXY": "http://p.example", "NO_PROXY": "app.crm.com"}, API, None),
        ({"HTTPS_PROXY": "http://p.example", "NO_PROXY": ".crm.com"}, API, None),
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, LOCAL, "http://127.0.0.1:9"),
        # It would reach its own loopback instead of ours, and be shown the credentials.
        ({"HTTP_PROXY": "http://proxy.example:3128"}, LOCAL, None),
    ],
)
def test_the_environment_names_the_proxy(tools, monkeypatch, environment, url, proxy):
    """The usual variables, and NO_PROXY."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_a_socks_proxy_is_refused_with_a_remedy(tools, monkeypatch):
    """Not silently passed by: a network that needs it would not be reached."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter2@proxy.example:1080")
    with pytest.raises(SettingsError, match=r"socks5://.*HTTPS_PROXY") as caught:
        proxy_for(API)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hunter/2@p:3128",
        "http://user:hun#ter2@p:1",
        "http://p:99999",
        "http://[",
        "://",
    ],
)
def test_a_proxy_that_is_no_url_is_named_without_its_password(tools, monkeypatch, proxy):
    """A sign that is not percent-encoded makes the password a part of the address."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(SettingsError, match="percent-encoded") as caught:
        proxy_for(API)
    assert "hun" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


@EACH
@pytest.mark.parametrize("holds", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(tools, monkeypatch, tmp_path, kind, holds):
    """At once, by their setting: nothing was asked and nothing written yet."""
    file = tmp_path / "ca.pem"
    if holds is not None:
        file.write_text(holds)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
        tools.client(API, transport=kind)


@EACH
async def test_a_proxy_is_used(tools, monkeypatch, kind):
    """The request goes to the proxy, whole URL and all."""
    async with tools.Server([200]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with tools.client("http://127.0.0.1:1/v2", transport=kind) as client:
            await client.get(tools.account())
    assert proxy.asked[0].path == "http://127.0.0.1:1/v2/accounts/1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A company's own authority, and what it has signed for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out asked.csr",
        "x509 -req -days 2 -in asked.csr -CA ca.pem -CAkey ca.key -extfile names -out cert.pem",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True, cwd=folder)
    others = Path(certifi.where()).read_text()
    (folder / "bundle.pem").write_text(others + (folder / "ca.pem").read_text())
    return folder


async def answer_over_tls(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    async def serve(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


@EACH
@pytest.mark.parametrize("trusted", ["", "ca.pem", "bundle.pem"])
async def test_certificates_are_checked(tools, monkeypatch, certificate, trusted, kind):
    """SSL_CERT_FILE names a company's own authority, or it among all others; without it, the
    error says so at once."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / trusted))
    async with await answer_over_tls(certificate) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
        async with tools.client(url, transport=kind) as client:
            if trusted:
                await client.get(tools.account())
            else:
                with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
                    await client.get(tools.account())
    assert tools.time.slept == []


@EACH
@pytest.mark.parametrize("how", ["short", "reset", "silent"])
async def test_every_transport_behaves_alike(tools, how, kind):
    """The network is a swappable part: what goes wrong on it is asked again, once."""
    bad = tools.Say(body={"id": "x" * 100}, how=how)
    async with (
        tools.Server([bad, 200]) as server,
        tools.client(server, transport=kind, request_timeout_s=0.15) as client,
    ):
        await client.get(tools.account())
    assert client.stats.retries == 1


@EACH
async def test_an_address_of_any_letters_is_sent_as_a_url_can_say_it(tools, kind):
    async with (
        tools.Server([200]) as server,
        tools.client(server.url.replace("/v2", "/ä/v2"), transport=kind) as client,
    ):
        await client.get(tools.account())
    assert server.asked[0].path == "/%C3%A4/v2/accounts/1"


@EACH
async def test_connections_are_kept(tools, kind):
    """As many as were ever in flight, for a hundred requests: counted where they arrive."""
    async with (
        tools.Server([200] * 100) as server,
        tools.client(server, transport=kind, max_concurrency=4) as client,
    ):
        await client.get(tools.account())
        await asyncio.gather(*(client.get(tools.account(str(n))) for n in range(99)))
    assert len(server.asked) == 100
    assert 1 <= server.connections <= 4


async def test_any_transport_of_httpx_s_interface_can_stand_in(tools):
    async with (
        tools.Server([200]) as server,
        tools.client(server, transport=httpx.AsyncHTTPTransport()) as client,
    ):
        assert (await client.get(tools.account())).body == b'{"id": "1"}'


BODY = b'{"id": "1"}'
ENDINGS = {
    "by its length": b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + BODY,
    "in pieces": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'4\r\n{"id\r\n7\r\n": "1"}\r\n0\r\n\r\n',
    "with the connection": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    "in the old way": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "after another": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + BODY,
    "packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(BODY),
    "deflated": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(BODY),
    "deflated barely": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n"
    + zlib.compress(BODY, wbits=-15),
}


@EACH
@pytest.mark.parametrize("reply", ENDINGS.values(), ids=ENDINGS.keys())
async def test_an_answer_may_end_in_any_way_of_http(tools, reply, kind):
    """Arriving byte by byte, too."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for byte in reply:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
        async with tools.client(url, transport=kind) as client:
            assert (await client.get(tools.account())).body == BODY
    assert client.stats.retries == 0


@EACH
async def test_what_is_packed_may_not_fill_the_memory(tools, monkeypatch, kind):
    """A body is as large as it is unpacked."""
    monkeypatch.setattr("crmcom.wire.MAX_BODY", 100_000)
    bomb = tools.Say(body=gzip.compress(bytes(10**8)), headers={"Content-Encoding": "gzip"})
    async with (
        tools.Server([bomb, 200]) as server,
        tools.client(server, transport=kind) as client,
    ):
        await client.get(tools.account())
    assert client.stats.causes == {"broken body": 1}


async def test_a_connection_that_says_more_than_it_was_asked_is_left(tools):
    """What comes unasked must not pass for the next answer."""
    stale = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"id": 0}'

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ENDINGS["by its length"])
                await asyncio.sleep(0.02)
                writer.write(stale)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
        async with tools.client(url) as client:
            for _ in range(3):
                assert (await client.get(tools.account())).body == BODY
                await asyncio.sleep(0.05)


async def test_what_is_not_http_is_unavailable(tools):
    """A port that speaks something else is no crash."""

    async def serve(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with tools.client(url, patience=Patience(tries=2)) as client:
            with pytest.raises(Unavailable):
                await client.get(tools.account())


async def test_a_mocked_transport_is_enough(tools):
    """Tests of other parts need no server."""
    mock = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": "1"}))
    async with tools.client(API, transport=mock) as client:
        assert (await client.get(tools.account())).body == b'{"id":"1"}'


async def test_a_connection_that_is_called_off_as_it_is_made_ends_without_a_word(monkeypatch):
    """A stopped run calls off whatever is on its way; nothing may wait for it, or complain."""
    complaints, made, tasks = [], [], []
    connected = over_asyncio._Connection.connection_made

    def called_off(self, transport):
        connected(self, transport)
        made.append(self)
        tasks[0].cancel()

    monkeypatch.setattr(over_asyncio._Connection, "connection_made", called_off)
    asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
    async with await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = over_asyncio.AsyncioTransport(url, max_connections=1)
        asked = transport.get_answer(f"{url}/v2", Headers({}), timeout_s=5, at_most=1)
        tasks.append(asyncio.create_task(asked))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await asyncio.wait_for(transport.aclose(), 1)
        await asyncio.wait_for(made[0].ended, 1)
    assert complaints == []


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
async def test_a_name_that_no_host_can_have_is_no_host(tools, host):
    async with tools.client(f"https://{host}/v2", patience=Patience(tries=1)) as client:
        with pytest.raises(Unavailable, match="no host of that name"):
            await client.get(tools.account())
