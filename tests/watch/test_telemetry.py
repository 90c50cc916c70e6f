"""Traces and metrics, as a collector receives them."""

import logging
import socket
import time

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from crmcom.events import tell
from crmcom_pipelines import telemetry
from crmcom_pipelines.logs import logging_to_stderr

from .conftest import call, receiving


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind)


def attributes(of):
    return {pair.key: plain(pair.value) for pair in of}


def spans(collector):
    found = []
    for path, body in collector.bodies:
        if path == "/v1/traces":
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                found += [(of.resource, span) for scope in of.scope_spans for span in scope.spans]
    return found


def metrics(collector):
    """The last value of each metric, by name and attributes."""
    found = {}
    for path, body in collector.bodies:
        if path == "/v1/metrics":
            for of in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (m for scope in of.scope_metrics for m in scope.metrics):
                    for point in (*metric.sum.data_points, *metric.gauge.data_points):
                        key = (metric.name, *sorted(attributes(point.attributes).items()))
                        found[key] = point.as_int or point.as_double
    return found


def test_a_run_is_one_trace_and_its_steps_are_spans_within_it(watched):
    found = [span for _, span in spans(watched.collector)]
    (run,) = [span for span in found if not span.parent_span_id]
    assert run.name == "run"
    about = attributes(run.attributes)
    assert about["crmcom.run_id"] == watched.result["run_id"]
    assert about["crmcom.exit_code"] == 0
    within = [span for span in found if span is not run]
    assert {span.name for span in within} == {"login", "window", "slice", "transform", "publish"}
    for span in within:
        assert (span.trace_id, span.parent_span_id) == (run.trace_id, run.span_id)
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= run.end_time_unix_nano
        assert span.start_time_unix_nano >= run.start_time_unix_nano - 50_000_000
    windows = [attributes(span.attributes) for span in within if span.name == "window"]
    counted = sum(result["windows"] for result in watched.result["resources"].values())
    assert len(windows) == counted
    assert {w["crmcom.resource"] for w in windows} == {"contacts", "activities"}


def test_the_counters_are_those_of_the_result(watched):
    found = metrics(watched.collector)
    for name, result in watched.result["resources"].items():
        resource = ("resource", name)
        for field in ("requests", "rows", "rejected"):
            assert found[f"crmcom.{field}", resource] == result[field]
        causes = [v for k, v in found.items() if k[0] == "crmcom.retries" and resource in k]
        assert sum(causes) == result["retries"]
    assert found["crmcom.run.exit_code",] == 0
    assert found["crmcom.run.duration",] == pytest.approx(watched.result["seconds"], abs=0.01)


def test_the_service_has_a_name_and_the_variables_win(watched, monkeypatch):
    resource, _ = spans(watched.collector)[0]
    about = attributes(resource.attributes)
    assert about["service.name"] == "crmcom-warehouse"
    assert about["deployment.environment"] == "test"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "finance-sync")
    with receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        one_run()
    resource, _ = spans(collector)[0]
    assert attributes(resource.attributes)["service.name"] == "finance-sync"


def one_run(code=0):
    """A run's first and last event, in this process."""
    with logging_to_stderr():
        found = telemetry.start()
        tell("run_started", run_id="r1")
        tell("run_finished", run_id="r1", exit_code=code, seconds=1.5)
        if found is not None:
            found.finish()
    return found


def test_a_failed_run_is_a_failed_span_and_an_exit_code(monkeypatch):
    with receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        one_run(code=5)
    ((_, run),) = spans(collector)
    assert run.status.code == run.status.STATUS_CODE_ERROR
    assert metrics(collector)["crmcom.run.exit_code",] == 5


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, set()),
        ({"OTEL_SERVICE_NAME": "x"}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, {"traces", "metrics"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, set()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/v1/metrics"}, {"metrics"}),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}, set()),
    ],
)
def test_the_variables_say_what_is_sent(environ, expected):
    assert telemetry.wanted(environ) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "often"),
    ],
)
def test_what_cannot_be_sent_is_said_and_ends_nothing(monkeypatch, caplog, name, value):
    """And nothing else of the process is changed by it."""
    with receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv(name, value)
        one_run()
    assert logging.getLogger("opentelemetry").propagate
    said = [r.getMessage() for r in caplog.records if r.name == "crmcom"]
    assert name == "OTEL_BSP_SCHEDULE_DELAY" or any(name in text for text in said)


def test_a_collector_that_never_answers_costs_a_few_seconds_and_one_line(monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0), backlog=8) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        began_s = time.monotonic()
        one_run()
        took_s = time.monotonic() - began_s
    # Twice what it may take: the machine may be busy.
    assert took_s < 2 * telemetry.FLUSH_S
    (said,) = [r.getMessage() for r in caplog.records if "collector" in r.getMessage()]
    assert said.startswith("OpenTelemetry: not all traces and metrics reached the collector")


def test_where_the_extra_is_missing_one_line_names_it(monkeypatch, tmp_path):
    """The rest goes on as without the variables."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['opentelemetry.sdk.resources'] = None\n"
    )
    found = call(
        *("transform", "--log-format", "json"),
        cwd=tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        PYTHONPATH=str(tmp_path),
    )
    assert found.code == 2
    assert "crmcom sync" in found.events("error")[0]["message"]
    (warned,) = [line for line in found.lines if "crmcom-warehouse[otel]" in str(line)]
    assert warned["level"] == "warning"
