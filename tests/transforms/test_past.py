"""Reports as of a past day, asked for as people do."""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import pytest
from click.testing import CliRunner, Result

from crmcom_pipelines.cli import main
from crmcom_pipelines.marts import ALIASES, QUESTIONS
from crmcom_transforms import PROJECT_DIR

from .raw import load
from .test_transform import DAY, reading

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Build


def crmcom(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def published(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read on two days; a further reading of the first was loaded on the third."""
    database = tmp_path_factory.mktemp("published") / "it's mine.duckdb"
    late = reading("one", 0, overdue_amount=7, run_id="run-late", _synced_at=DAY.replace(day=12))
    late["observed_at"] = DAY.replace(hour=10)
    readings = [reading("one", 0, credit_limit=0), reading("one", 1), late | {"credit_limit": 0}]
    contacts = [{"id": "anna", "name": "Anna"}, {"id": "bert", "name": "Bert"}]
    load(database, "crmcom", {"account_observations": readings, "contacts": contacts})
    build(database, vars={"crmcom_zero_credit_limit_means": "no_credit"})
    with duckdb.connect(database) as connection:
        connection.execute("create table crmcom_reports.my_own as select 1 as one")
    database.chmod(0o444)
    return database


def told(published: Path, name: str, *options: object) -> list[dict[str, str]]:
    before = hashlib.sha256(published.read_bytes()).hexdigest()
    found = crmcom("report", name, "--format", "csv", "--database", published, *options)
    assert found.exit_code == 0, found.output
    assert hashlib.sha256(published.read_bytes()).hexdigest() == before
    return list(csv.DictReader(io.StringIO(found.stdout)))


def overdue(published: Path, *options: object) -> list[dict[str, str]]:
    return told(published, "overdue", *options)


def test_a_past_day_is_told_and_the_published_file_stays_as_it_is(published: Path) -> None:
    (row,) = overdue(published)
    assert (row["as_of_date"], row["overdue_gross"]) == ("2026-03-11", "40.0000")
    (row,) = overdue(published, "--as-of", "2026-03-10")
    assert (row["as_of_date"], row["overdue_gross"]) == ("2026-03-10", "7.0000")
    assert row["days_overdue_min"] == "1"


def test_the_latest_day_asked_for_is_the_published_report(published: Path) -> None:
    """What nobody can tell of a past day, such as contacts without accounts, is known of it."""
    latest = told(published, "contact_360")
    assert [row["contact_name"] for row in latest] == ["Anna", "Bert"]
    assert told(published, "contact_360", "--as-of", "2026-03-11") == latest


def test_a_past_day_is_told_with_the_variables_of_the_published_reports(published: Path) -> None:
    """They may have been given to that one `crmcom transform` alone."""
    (row,) = told(published, "credit_exposure", "--as-of", "2026-03-10")
    assert (row["limit_status"], row["over_limit"]) == ("zero", "100.0000")


def test_a_page_of_the_past_holds_all_that_it_tells(published: Path, tmp_path: Path) -> None:
    """Figures, age, trend and anomalies are of that day; the file of today is untouched."""
    for options, day, amount in (
        ((), "2026-03-11", "40.00"),
        (("2026-03-10",), "2026-03-10", "7.00"),
    ):
        as_of = ("--as-of", *options) if options else ()
        page = tmp_path / "page.html"
        found = crmcom(
            *("report", "overdue", "--format", "html", "-o", page, "--database", published), *as_of
        )
        assert found.exit_code == 0, found.output
        text = page.read_text()
        assert f"<title>Overdue debt as of {day}</title>" in text
        assert f'<p class="figure">{amount}</p>' in text
        assert "there is no report" not in text
        assert ("No trend yet" in text) == bool(options)
        assert ("as asked" in text) == bool(options)


def test_all_reports_of_a_past_day_fit_into_a_folder(published: Path, tmp_path: Path) -> None:
    options = ("--all", "--format", "html", "-o", tmp_path / "past", "--as-of", "2026-03-10")
    found = crmcom("report", *options, "--database", published)
    assert found.exit_code == 0, found.output
    assert {f"{name}.html" for name in (*QUESTIONS, "index")} <= {
        f.name for f in (tmp_path / "past").iterdir()
    }


def test_what_was_loaded_later_does_not_count(published: Path) -> None:
    (row,) = overdue(published, "--as-of", "2026-03-10", "--known-at", "2026-03-12T10:00+02:00")
    assert row["overdue_gross"] == "40.0000"


def test_a_day_before_the_first_reading_is_told_as_one(published: Path) -> None:
    """Nothing was known then, which is not the same as nothing being overdue."""
    found = crmcom("report", "overdue", "--as-of", "2026-03-09", "--database", published)
    assert found.exit_code == 0, found.output
    said = "No account is overdue, as of 2026-03-09: no account was read before 2026-03-10."
    assert said in found.stdout
    known = ("--known-at", "2026-03-01")
    found = crmcom("report", "overdue", *known, "--database", published)
    said = "No account is overdue: nothing had been loaded by 2026-03-01 00:00 UTC."
    assert said in found.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("overdue", "--as-of", "2026-03-12"), "the latest observed day is 2026-03-11"),
        (("overdue", "--as-of", "yesterday"), "'yesterday' is not a date"),
        (("overdue", "--as-of", ""), "'' is not a date"),
        (("overdue", "--known-at", ""), "'' is not a date"),
        (("overdue", "--known-at", "soon"), "'soon' is not a date"),
        (("my_own", "--as-of", "2026-03-10"), "my_own is no report of crmcom's"),
        (("overdu", "--as-of", "2026-03-10"), "did you mean overdue?"),
        ((), "crmcom report --list"),
    ],
)
def test_what_cannot_be_told_is_said(published: Path, args: tuple[str, ...], said: str) -> None:
    found = crmcom("report", *args, "--database", published)
    assert found.exit_code == 2
    assert said in found.output


def test_a_past_that_cannot_be_built_is_said(published: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.duckdb"
    broken.write_bytes(published.read_bytes())
    with duckdb.connect(broken) as connection:
        connection.execute("drop view if exists crmcom_staging.stg_crmcom__account_observations")
        connection.execute("alter table crmcom.account_observations alter observed_at type varchar")
        connection.execute("update crmcom.account_observations set observed_at = 'never'")
    found = crmcom("report", "overdue", "--as-of", date(2026, 3, 10), "--database", broken)
    assert found.exit_code == 7
    assert "never" in found.output


def test_every_report_is_listed_with_its_question() -> None:
    marts = {m.stem.removeprefix("crmcom__") for m in (PROJECT_DIR / "models/marts").glob("*.sql")}
    assert set(QUESTIONS) == marts
    found = crmcom("report", "--list")
    assert found.exit_code == 0
    listed = dict(line.split("  ", 1) for line in found.output.splitlines())
    assert [name.split()[0] for name in listed] == list(QUESTIONS)
    assert [question.strip() for question in listed.values()] == list(QUESTIONS.values())
    assert "overdue_worklist (overdue)" in listed
    assert set(ALIASES.values()) <= set(QUESTIONS)
