"""JSON logs: every line of stderr is an object that says of which run it is."""

import io
import json
import logging
import sys
import warnings
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from crmcom.events import tell
from crmcom_pipelines.logs import logging_to_stderr
from crmcom_sandbox import API_KEY, PASSWORD

from .conftest import call

RESOURCES = {"contacts", "accounts", "activities"}


def test_every_line_says_when_how_grave_what_and_of_which_run(watched):
    run_id = watched.result["run_id"]
    for line in watched.called.lines:
        assert {"time", "level", "event", "run_id", "resource"} <= set(line)
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
        assert line["level"] in {"info", "warning", "error"}
        assert line["run_id"] == run_id
    names = [line["event"] for line in watched.called.lines]
    assert names[0] == "run_started"
    assert names[-1] == "run_finished"
    for once in ("login", "slice_committed", "transform", "publish"):
        assert names.count(once) == 1, once


def test_there_is_one_event_for_each_window_and_for_each_resource(watched):
    for name, result in watched.result["resources"].items():
        windows = watched.called.events("window", resource=name)
        assert len(windows) == result["windows"]
        assert all(line["verdict"] == "proven" for line in windows)
        (finished,) = watched.called.events("resource_finished", resource=name)
        for field in ("rows", "requests", "retries", "rejected", "deleted", "verdict"):
            assert finished[field] == result[field]
    contacts = watched.called.events("window", resource="contacts", listed="created_on")
    assert [line["total"] for line in contacts] == [40]


def test_retries_are_told_by_cause_and_none_is_lost(watched):
    """Few events, and their numbers add up to what the result counts."""
    for name, result in watched.result["resources"].items():
        told = watched.called.events("retry", resource=name)
        assert sum(line["retries"] for line in told) == result["retries"]
        places = [(line["cause"], line.get("listed"), line.get("end")) for line in told]
        assert {cause for cause, *_ in places} <= {"500", "rate limit"}
        assert len(told) <= 2 * (2 * result["windows"] + 3)
    assert sum(result["retries"] for result in watched.result["resources"].values()) > 20


def test_no_line_holds_a_secret(watched):
    for secret in (PASSWORD, API_KEY, "very-secret-token"):
        assert secret not in watched.called.err
        assert secret not in watched.called.out


def test_wrong_usage_is_json_too(tmp_path):
    """Wherever the option stands, and whether it comes from the command line or not."""
    for args, env in (
        (["sync", "--reconcil", "--log-format", "json"], {}),
        (["sync", "--log-format=json", "--resources", "invoices"], {}),
        (["sync", "--verbose", "--quiet"], {"CRMCOM_LOG_FORMAT": "json"}),
        (["transform", "--vars", "{", "--log-format", "json"], {}),
    ):
        found = call(*args, cwd=tmp_path, **env)
        assert found.code == 2
        (line,) = found.lines
        assert (line["event"], line["level"], line["run_id"]) == ("error", "error", None)
        assert line["exit_code"] == 2
        assert line["message"]


def test_an_unexpected_error_brings_its_traceback_as_a_field(tmp_path):
    """A folder that is a file: nobody expects it."""
    (tmp_path / ".crmcom").write_text("")
    found = call(
        *("sync", "--base-url", "http://127.0.0.1:9", "--log-format", "json"),
        cwd=tmp_path,
        SOURCES__CRMCOM__API_KEY="a-secret-key",
    )
    assert found.code != 0
    errors = found.events("error")
    assert len(errors) == 1
    if found.code == 1:
        assert "Traceback" in errors[0]["traceback"]
    assert found.events("run_finished", exit_code=found.code)
    assert "a-secret-key" not in found.err


def test_verbose_shows_the_same_events_as_text_and_quiet_shows_problems_alone(server, tmp_path):
    args = ("sync", "--base-url", server.base_url, "--no-transform")
    loud = call(*args, "--verbose", cwd=tmp_path, SOURCES__CRMCOM__API_KEY=API_KEY)
    assert loud.code == 0
    for event in ("run started: ", "window: resource contacts", "slice committed: slice 1"):
        assert event in loud.err
    quiet = call(*args, "--quiet", cwd=tmp_path, SOURCES__CRMCOM__API_KEY=API_KEY)
    assert (quiet.code, quiet.out) == (0, "")
    assert all("clock" in line for line in quiet.err.splitlines()), "the sandbox's is set back"
    wrong = call(*args, "--quiet", cwd=tmp_path, SOURCES__CRMCOM__API_KEY="wrong-key")
    assert wrong.code == 3
    assert wrong.err.startswith("Error: ")


# --- any text ---


def logged(act, **options):
    """The lines that `act` leaves on stderr."""
    before, sys.stderr = sys.stderr, io.StringIO()
    try:
        with logging_to_stderr("json", **options) as context:
            act(context)
        return [json.loads(line) for line in sys.stderr.getvalue().split("\n") if line]
    finally:
        sys.stderr = before


@given(st.text())
def test_whatever_is_said_is_one_object_a_line(text):
    def act(_):
        tell("window", resource=text, reason=text, names=[text])
        logging.getLogger("somebody").warning("%s", text)

    told, said = logged(act)
    assert told["reason"] == told["resource"] == text
    assert told["names"] == [text]
    assert said["message"] == text


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"))))
def test_what_is_written_to_stderr_by_anybody_comes_as_objects(texts):
    """In parts or at once, with a line break at the end or without."""

    def act(_):
        for text in texts:
            sys.stderr.write(text)
        sys.stderr.flush()

    expected = [line.rstrip() for line in "".join(texts).split("\n") if line.strip()]
    assert [line["message"] for line in logged(act)] == expected


@given(st.text(min_size=1))
def test_no_field_shows_a_secret(secret):
    def act(context):
        context.scrub = lambda text: text.replace(secret, "***")
        tell("note", text=f"a{secret}b", many=[secret], deep={"x": secret}, number=1)
        logging.getLogger("somebody").error("it is %s", secret)

    told, said = logged(act)
    assert told["many"] == ["***"]
    assert told["deep"] == {"x": "***"}
    assert told["number"] == 1
    assert told["text"] == f"a{secret}b".replace(secret, "***")
    assert said["message"] == f"it is {secret}".replace(secret, "***")


def test_warnings_of_libraries_and_tracebacks_are_objects():
    def act(_):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn("old ways", DeprecationWarning, stacklevel=1)
        try:
            int("two\nlines")
        except ValueError:
            logging.getLogger("somebody").exception("it broke")

    warned, broke = logged(act)
    assert "old ways" in warned["message"]
    assert "ValueError: invalid literal" in broke["traceback"]


def test_a_stderr_that_nobody_reads_ends_nothing():
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    before, sys.stderr = sys.stderr, Closed()
    try:
        with logging_to_stderr("json"):
            tell("window", resource="contacts")
            sys.stderr.write("a line\n")
    finally:
        sys.stderr = before


def test_a_log_file_of_a_library_that_cannot_be_written_is_not_told(capsys):
    """dbt's, on a full disk: the run tells the cause, once."""

    class Full(io.StringIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    library, handler = logging.getLogger("a library"), logging.StreamHandler(Full())
    library.addHandler(handler)
    with logging_to_stderr():
        library.error("something")
    library.removeHandler(handler)
    assert "Logging error" not in capsys.readouterr().err
