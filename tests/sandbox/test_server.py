"""The sandbox over HTTP: in a thread, in a process, from the command line."""

import asyncio
import json
import os

import httpx
import pytest
from click.testing import CliRunner

import crmcom_sandbox
from crmcom_sandbox import World, cli, serve, serve_process


def test_the_public_names():
    assert sorted(crmcom_sandbox.__all__) == [
        "ALL_KINDS",
        "API_KEY",
        "BEHAVIOURS",
        "Behaviour",
        "Clock",
        "Credentials",
        "DEFAULT_NOW",
        "Faults",
        "LIVE",
        "PASSWORD",
        "PUBLIC_KEY",
        "QUICK_KINDS",
        "REFERENCE",
        "RateLimit",
        "Sandbox",
        "Server",
        "ServerProcess",
        "USERNAME",
        "World",
        "create_app",
        "serve",
        "serve_process",
    ]


def test_a_server_in_a_thread_shares_its_world(small):
    with serve(small, behaviour="live") as server:
        assert server.world is small
        headers = {"api_key": server.api_key}
        reply = httpx.get(f"{server.base_url}/contacts", headers=headers)
        assert reply.status_code == 200
        assert reply.headers.get_list("date") == ["Mon, 12 Jan 2026 09:00:00 GMT"]
        assert "server" not in reply.headers
        assert httpx.get(f"{server.control_url}/counters").json()["requests"] == {
            "GET /contacts": 1
        }
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.base_url)


def test_the_concurrent_peak_and_the_connections_are_counted(small):
    with serve(small) as server:
        server.sandbox.switch(latency_s={"*": 0.1})

        async def ask() -> None:
            async with httpx.AsyncClient(
                base_url=server.base_url, headers={"api_key": server.api_key}
            ) as client:
                await asyncio.gather(*(client.get("/contacts") for _ in range(7)))

        asyncio.run(ask())
        assert server.sandbox.counters.peak_in_flight == 7
        assert server.sandbox.counters.connections == 7


def test_a_server_stops_while_a_request_hangs(small):
    hanging = crmcom_sandbox.Faults(rate=1, kinds=("hang",))
    with serve(small, faults=hanging) as server, pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{server.base_url}/contacts", timeout=0.1)


def test_writes_go_over_the_wire_too(examples):
    activity_id = examples.create_activity(next(iter(examples.contacts)).id)
    with serve(examples) as server:
        client = httpx.Client(base_url=server.base_url, headers={"api_key": server.api_key})
        with client:
            reply = client.put(f"/activities/{activity_id}", json={"state": "COMPLETED"})
            assert reply.json() == {"id": activity_id}
            assert client.get("/activities", params={"states": "COMPLETED"}).json()["content"]
            gone = client.delete(f"/activities/{activity_id}")
            assert (gone.status_code, "content-length" in gone.headers) == (204, False)
            assert client.get(f"/activities/{activity_id}").status_code == 404


def test_two_servers_may_serve_one_world(small):
    with serve(small) as one, serve(small, behaviour="live") as two:
        for server, total in ((one, 120), (two, None)):
            headers = {"api_key": server.api_key}
            reply = httpx.get(f"{server.base_url}/contacts", headers=headers).json()
            assert reply["paging"]["total"] == total


def test_a_server_in_a_process_of_its_own():
    """The same seed and date give the same data there as here."""
    options = ["--seed", "4", "--contacts", "30", "--activities", "60", "--frozen"]
    options += ["--now", "2026-01-12T09:00:00Z", "--behaviour", "live"]
    options += ["--switches", '{"total_cap": 20}', "--faults", '{"seed": 3}']
    with serve_process(*options, api_key="a key") as server:
        assert server.pid != os.getpid()
        truth = json.loads(httpx.get(f"{server.control_url}/truth").text, parse_float=str)
        here = World.generate(seed=4, contacts=30, activities=60).truth()
        assert [c["id"] for c in truth["contacts"]] == [c["id"] for c in here["contacts"]]
        reply = httpx.get(
            f"{server.base_url}/contacts?include_total=true", headers={"api_key": "a key"}
        )
        assert reply.json()["paging"]["total"] == 20
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_process_that_cannot_start_is_told():
    with pytest.raises(RuntimeError, match="did not start"), serve_process("--contacts", "many"):
        pass


def test_the_command_line_explains_itself():
    result = CliRunner().invoke(cli.sandbox, ["--help"])
    assert result.exit_code == 0
    for parameter in cli.sandbox.params:
        assert parameter.opts[0] in result.output
        assert parameter.help, f"{parameter.name} has no help"
    assert "Example:" in result.output


@pytest.mark.parametrize(
    "option",
    [
        ["--switches", '{"unheard_of": 1}'],
        ["--switches", "no json"],
        ["--faults", '{"rate": "often"}'],
        ["--now", "yesterday"],
        ["--now", "2026-01-01"],
    ],
)
def test_a_wrong_option_is_a_usage_error(option):
    result = CliRunner().invoke(cli.sandbox, ["--contacts", "0", "--activities", "0", *option])
    assert result.exit_code == 2
    assert option[0] in result.output
