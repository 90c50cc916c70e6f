"""Runs as OpenTelemetry traces and metrics, where the usual variables ask for them.

Spans come from the events of a run, metrics from its counters. The providers are our own and not
the process's: dlt and dbt know nothing of them.
"""

# ruff: noqa: PLC0415 - the SDK is an extra, and nobody who does not use it pays for it

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from crmcom import Run
    from crmcom.run import Result

log = logging.getLogger("crmcom")

SERVICE = "crmcom-warehouse"
SIGNALS = ("traces", "metrics")
FLUSH_S = 3.0
"""How long the end of a run waits for the collector, at most."""

_SPANS = {
    "login": "login",
    "window": "window",
    "slice_committed": "slice",
    "transform": "transform",
    "publish": "publish",
}
"""Events that end something that took `seconds`, and the name of their span."""


def wanted(environ: dict[str, str]) -> set[str]:
    """The signals that the variables ask for: those with an exporter or an address of their own,
    or all where the general address is set, and none that is turned off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return set()
    found = set()
    for signal in SIGNALS:
        exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
        addresses = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if exporter != "none" and (exporter or any(environ.get(name) for name in addresses)):
            found.add(signal)
    return found


def start() -> Telemetry | None:
    """None where nothing is wanted; a line says so where it is wanted and cannot be had."""
    signals = wanted(dict(os.environ))
    for signal in sorted(signals):
        if reason := _unknown(signal):
            log.warning("OpenTelemetry: no %s, %s", signal, reason)
            signals.remove(signal)
    if not signals:
        return None
    troubles = _Troubles()
    try:
        return Telemetry(signals, troubles)
    except ImportError:
        log.warning(
            "OpenTelemetry: OTEL_* variables are set, and the SDK is not installed: "
            "pip install 'crmcom-warehouse[otel]', or set OTEL_SDK_DISABLED=true"
        )
    except Exception as error:
        log.warning(
            "OpenTelemetry: the SDK does not take the OTEL_* variables (%s): no traces and metrics",
            type(error).__name__,
        )
    troubles.close()
    return None


def _unknown(signal: str) -> str | None:
    exporter = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    if exporter not in ("", "otlp"):
        return f"OTEL_{signal.upper()}_EXPORTER can be otlp or none here"
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := os.environ.get(name, "").strip().lower():
            return None if protocol == "http/protobuf" else f"{name} can be http/protobuf here"
    return None


class Telemetry(logging.Handler):
    """Listens to the events of the logger `crmcom`. `finish` sends what is left."""

    def __init__(self, signals: Iterable[str], troubles: _Troubles) -> None:
        super().__init__(logging.INFO)
        from opentelemetry.sdk.resources import Resource

        self._span: Any = None
        self._run: Run | None = None
        self._shutdowns: list[Callable[[], None]] = []
        self._troubles = troubles
        self._scrub: Callable[[str], str] = str
        # What is given here would win over OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
        unnamed = str(Resource.create().attributes["service.name"]).startswith("unknown_service")
        self._resource = Resource.create({"service.name": SERVICE} if unnamed else {})
        self._tracer: Any = self._make_tracer() if "traces" in signals else None
        self._gauges = self._make_meters() if "metrics" in signals else {}
        log.addHandler(self)

    def follow(self, run: Run) -> None:
        """From now on it is this run's counters that are reported."""
        self._run, self._scrub = run, run.settings.scrub

    def finish(self) -> None:
        """Send what is left, but wait `FLUSH_S` at most."""
        log.removeHandler(self)
        threads = [threading.Thread(target=s, daemon=True) for s in self._shutdowns]
        deadline = time.monotonic() + FLUSH_S
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = any(thread.is_alive() for thread in threads)
        self._troubles.close()
        if late or self._troubles.met:
            log.warning(
                "OpenTelemetry: not all traces and metrics reached the collector; see "
                "OTEL_EXPORTER_OTLP_ENDPOINT"
            )

    def emit(self, record: logging.LogRecord) -> None:
        event, fields = getattr(record, "event", None), getattr(record, "fields", {})
        try:
            if event == "run_started" and self._tracer is not None:
                self._span = self._tracer.start_span("run", attributes=self._attributes(fields))
            elif event == "run_finished":
                self._end(fields)
            elif event in _SPANS and self._tracer is not None:
                self._child(_SPANS[event], fields, bad=record.levelno >= logging.WARNING)
        except Exception:
            self.handleError(record)

    # --- traces ---

    def _make_tracer(self) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._shutdowns.append(provider.shutdown)
        return provider.get_tracer(SERVICE)

    def _child(self, name: str, fields: dict[str, Any], *, bad: bool) -> None:
        """A span for what has just ended, within that of the run."""
        from opentelemetry.trace import set_span_in_context

        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(self._span) if self._span is not None else None,
            start_time=end_ns - round(fields.get("seconds", 0) * 1e9),
            attributes=self._attributes(fields),
        )
        if bad:
            _mark_bad(span, self._attribute(fields.get("reason")))
        span.end(end_ns)

    def _end(self, fields: dict[str, Any]) -> None:
        for name, gauge in self._gauges.items():
            gauge.set(fields[name])
        if self._span is None:
            return
        for name, value in self._attributes(fields).items():
            self._span.set_attribute(name, value)
        if fields["exit_code"]:
            _mark_bad(self._span, f"exit code {fields['exit_code']}")
        self._span.end()
        self._span = None

    def _attributes(self, fields: dict[str, Any]) -> dict[str, Any]:
        found = {f"crmcom.{name}": self._attribute(value) for name, value in fields.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _attribute(self, value: Any) -> Any:
        match value:
            case str():
                return self._scrub(value)
            case bool() | int() | float():
                return value
            case list() | tuple():
                return [self._scrub(str(item)) for item in value]
        return None

    # --- metrics ---

    def _make_meters(self) -> dict[str, Any]:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        provider = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter())],
            resource=self._resource,
            shutdown_on_exit=False,
        )
        self._shutdowns.append(provider.shutdown)
        meter = provider.get_meter(SERVICE)

        def counter(name: str, unit: str, of: Callable[[Result], Any]) -> None:
            def observe(_: Any) -> list[Observation]:
                return [Observation(of(r), {"resource": r.resource}) for r in self._results()]

            meter.create_observable_counter(name, [observe], unit)

        def retries(_: Any) -> list[Observation]:
            return [
                Observation(number, {"resource": r.resource, "cause": cause})
                for r in self._results()
                for cause, number in r.count.causes.items()
            ]

        counter("crmcom.requests", "{request}", lambda r: r.requests)
        counter("crmcom.rows", "{row}", lambda r: r.rows)
        counter("crmcom.rejected", "{record}", lambda r: r.rejected)
        meter.create_observable_counter("crmcom.retries", [retries], "{request}")
        return {
            "seconds": meter.create_gauge("crmcom.run.duration", "s"),
            "exit_code": meter.create_gauge("crmcom.run.exit_code"),
        }

    def _results(self) -> list[Result]:
        return list(self._run.results.values()) if self._run is not None else []


class _Troubles(logging.Handler):
    """Keeps to itself what the SDK says of a collector; one line of ours tells it at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False
        self._logger = logging.getLogger("opentelemetry")
        self._propagated = self._logger.propagate
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, _: logging.LogRecord) -> None:
        self.met = True

    def close(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
        super().close()


def _mark_bad(span: Any, why: object) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, None if why is None else str(why)))
