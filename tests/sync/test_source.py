"""The source in anybody's dlt pipeline, its settings, and what never leaves it."""

from __future__ import annotations

import logging
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING

import dlt
import duckdb
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from crmcom import Settings, crmcom_source, settings_from_config
from crmcom.errors import CrmcomError, LoginRefused, SettingsError
from crmcom_sandbox import World, serve

from . import truth, worlds

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {
    "base_url": "https://here.example/backoffice/v2",
    "api_key": "KEY",
    "access_token": None,
    "username": "somebody",
    "password": "PASS",
    "secret_key": "SECRET",
    "page_size": 50,
    "max_concurrency": 3,
    "max_requests_per_second": 2.5,
    "transport": "httpx",
    "request_timeout_s": 7.0,
    "run_timeout_s": 700.0,
    "start_date": "2024-01-02",
    "lag_s": 1,
    "lookback_s": 2,
    "reconcile_every_days": 1.5,
    "account_refresh": 9,
    "activity_details": "all",
    "full_scan": ["contacts"],
    "privacy": {"email": "hash"},
    "privacy_key": "a-long-random-text",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No `.dlt` of the checkout, no telemetry, no home directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "dlt"))


def pipeline_into(folder: Path, destination=None):
    target = destination or dlt.destinations.duckdb(str(folder / "any.duckdb"))
    return dlt.pipeline(
        "anybody", destination=target, dataset_name="crmcom", pipelines_dir=str(folder / "p")
    )


def test_every_setting_is_read_from_the_environment(monkeypatch):
    """By the names that the docs give: a renamed key breaks somebody's deployment."""
    assert KEYS.keys() == {f.name for f in fields(Settings)}
    for name, value in KEYS.items():
        if value is not None:
            text = str(value).replace("'", '"')
            monkeypatch.setenv(f"SOURCES__CRMCOM__{name.upper()}", text)
    found = settings_from_config()
    assert found.credentials.username == "somebody"
    for name, value in KEYS.items():
        if value is None or name in Settings.SECRETS:
            continue
        have = getattr(found, name)
        if name == "start_date":
            assert have.isoformat() == "2024-01-02T00:00:00+00:00"
        else:
            assert have == (tuple(value) if name == "full_scan" else value), name
    assert [found.scrub(KEYS[s]) for s in ("api_key", "password", "secret_key")] == ["***"] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PAGE_SIZE", "many"),
        ("PAGE_SIZE", "0"),
        ("FULL_SCAN", '["nothing"]'),
        ("PRIVACY", "email"),
        ("MAX_REQUESTS_PER_SECOND", "fast"),
    ],
)
def test_a_setting_that_is_wrong_is_named(monkeypatch, name, text):
    monkeypatch.setenv("SOURCES__CRMCOM__BASE_URL", "https://here.example/backoffice/v2")
    monkeypatch.setenv("SOURCES__CRMCOM__API_KEY", "KEY")
    monkeypatch.setenv(f"SOURCES__CRMCOM__{name}", text)
    with pytest.raises(SettingsError, match=name.lower()):
        settings_from_config()


def test_the_source_runs_in_anybodys_pipeline(tmp_path, monkeypatch):
    """Configured by the environment; run after run, the same source object given twice, too;
    and with the resources that one selects, which wait for no others."""
    world = worlds.small(contacts=12, activities=20)
    with serve(world, behaviour="live") as server:
        monkeypatch.setenv("SOURCES__CRMCOM__BASE_URL", server.base_url)
        monkeypatch.setenv("SOURCES__CRMCOM__API_KEY", server.api_key)
        pipeline = pipeline_into(tmp_path)
        source = crmcom_source()
        pipeline.run(source.with_resources("accounts"))
        pipeline.run(source.with_resources("contacts"))
        pipeline.run(crmcom_source().with_resources("accounts"))
        world.create_activity(None)
        world.clock.move(timedelta(minutes=10))
        source = crmcom_source()
        pipeline.run(source)
        world.create_activity(None)
        world.clock.move(timedelta(minutes=10))
        pipeline.run(source)
        with duckdb.connect(str(tmp_path / "any.duckdb")) as con:
            assert truth.differences(con, world.truth(), live=True, detailed=set()) == []


def test_a_destination_that_cannot_merge_is_refused(tmp_path):
    """dlt would append, and each run would double the rows of the one before it."""
    with serve(World(), behaviour="live") as server:
        pipeline = pipeline_into(tmp_path, dlt.destinations.filesystem(str(tmp_path / "files")))
        with pytest.raises(PipelineStepFailed, match="filesystem cannot replace rows"):
            pipeline.run(crmcom_source(base_url=server.base_url, api_key=server.api_key))
        assert not server.sandbox.log


@pytest.mark.parametrize("table_format", [None, "delta", "iceberg"])
def test_dlt_replaces_no_rows_in_files(table_format):
    """That is why files are refused: docs/decisions/0009-engines-and-files.md. Else look again."""
    can = dlt.destinations.filesystem("files").capabilities()
    strategies = can.merge_strategies_selector(
        can.supported_merge_strategies, table_schema={"table_format": table_format}
    )
    assert "delete-insert" not in strategies


def test_a_failure_raises_and_keeps_nothing(tmp_path):
    world = worlds.small(contacts=5, activities=5)
    with serve(world, behaviour="live") as server:
        server.sandbox.switch(forbidden=("GET /activities",))
        pipeline = pipeline_into(tmp_path)
        with pytest.raises(PipelineStepFailed) as caught:
            pipeline.run(crmcom_source(base_url=server.base_url, api_key=server.api_key))
        causes = []
        cause: BaseException | None = caught.value
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        assert any(isinstance(c, CrmcomError) and c.exit_code == 3 for c in causes)
        server.sandbox.switch(forbidden=())
        pipeline.run(crmcom_source(base_url=server.base_url, api_key=server.api_key))
        with duckdb.connect(str(tmp_path / "any.duckdb")) as con:
            assert truth.differences(con, world.truth(), live=True, detailed=set()) == []


def test_no_secret_is_left_anywhere_by_a_run_that_fails(warehouse, tmp_path, caplog, capfd):
    """In no file, table, trace, log or error, at DEBUG too; nor by one that goes well."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t-key-of-the-tenant"
    at = warehouse(worlds.small(contacts=4, activities=4))
    for place in ("*", "GET /accounts/{id}"):
        at.server.sandbox.switch(broken=(place,))
        at.sync(expect=None)
    with pytest.raises(LoginRefused) as refused:
        at.sync(settings={"api_key": secret})
    pipeline = pipeline_into(tmp_path)
    with pytest.raises(PipelineStepFailed) as caught:
        pipeline.run(crmcom_source(base_url=at.server.base_url, api_key=secret))
    printed = capfd.readouterr()
    said = "".join([str(refused.value), repr(refused.value), str(caught.value), *caplog.messages])
    said += printed.out + printed.err + caplog.text
    for key in (secret, at.server.api_key):
        assert key not in said
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert key.encode() not in path.read_bytes(), path
