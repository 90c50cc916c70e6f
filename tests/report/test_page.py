"""The page of a report: its figures are those of the csv, and no text of a tenant is markup."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from importlib import util

import pytest
from click.testing import CliRunner

from crmcom_pipelines import report
from crmcom_pipelines.charts import Bar, Point, bars, trend
from crmcom_pipelines.cli import main
from crmcom_pipelines.formats import Report
from crmcom_pipelines.grids import RULES
from crmcom_pipelines.html import write_html
from crmcom_pipelines.marts import open_mart
from crmcom_pipelines.money import amount
from crmcom_transforms import PROJECT_DIR

from .conftest import AS_OF
from .debts import ANOMALIES, READ_AT, debtors, fill

MADE_AT = (READ_AT + timedelta(hours=3)).replace(tzinfo=UTC)
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Text, rows of tables by their caption, and every element with its attributes."""

    def __init__(self, source):
        super().__init__()
        self.source = source
        self.open, self.elements, self.tables = [], [], {}
        self.caption = self.row = None
        self.scripts = []
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "caption":
            self.caption = ""
        if tag == "tr":
            self.row = []
        if tag in {"td", "th"}:
            self.row.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop()[0] == tag
        if tag == "tr":
            self.tables.setdefault(self.caption, []).append([cell.strip() for cell in self.row])
            self.row = None

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if "script" in tags:
            self.scripts[-1] += data
        elif "caption" in tags:
            self.caption += data
        elif self.row is not None and self.row:
            self.row[-1] += data

    @property
    def text(self):
        visible = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", self.source, flags=re.DOTALL)
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", visible))

    @property
    def worklist(self):
        """All rows, those that the script shows included."""
        _, *rows = self.tables["Overdue accounts, the most urgent of each currency first"]
        attributes = (a for tag, a in self.elements if tag == "script")
        for attrs, script in zip(attributes, self.scripts, strict=True):
            if "data-rest" in attrs:
                rows += json.loads(script)
        return rows


def page_of(warehouse, name="overdue", *, limit=None, made_at=MADE_AT, **how):
    out = io.BytesIO()
    with open_mart(name, database=warehouse.path, dataset="crmcom") as mart:
        write_html(Report(mart, limit, made_at=made_at, **how), out)
    return Page(out.getvalue().decode())


def csv_of(warehouse, name="overdue"):
    out = io.StringIO()
    report.write(name, database=warehouse.path, file_format="csv", stream=out)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def money(text):
    return Decimal(text.replace(",", ""))


@pytest.fixture
def rich(warehouse):
    fill(warehouse, debtors(130) + debtors(12, "JPY"), anomalies=ANOMALIES)
    return warehouse


# --- figures ---


def test_the_headline_of_each_currency_is_that_of_the_balances(rich):
    """Each to the last digit, and nowhere a sum of two."""
    page = page_of(rich)
    totals = defaultdict(lambda: defaultdict(Decimal))
    for row in csv_of(rich, "balances"):
        for column in ("overdue_net", "receivable", "credit", "net_balance"):
            totals[row["currency_code"]][column] += Decimal(row[column])
    assert set(totals) == {"CHF", "EUR", "JPY"}
    for currency, total in totals.items():
        figures = dict(page.tables[f"Figures, {currency}"])
        assert money(figures["Owed to us"]) == total["receivable"]
        assert money(figures["In credit"]) == total["credit"]
        assert money(figures["Net balance"]) == total["net_balance"]
        decimals = 0 if currency == "JPY" else 2
        assert f'<p class="figure">{amount(total["overdue_net"], decimals)}</p>' in page.source
    assert amount(sum(t["overdue_net"] for t in totals.values()), 2) not in page.source


def test_the_worklist_is_that_of_the_csv(rich):
    """Every account once, in its order, its amounts to the cent."""
    found = page_of(rich).worklist
    expected = csv_of(rich)
    assert len(found) == len(expected) == 142
    for row, of in zip(found, expected, strict=True):
        rank, name, _, account, currency, overdue, balance, days, queue, follow_up = row
        assert (rank, name, account) == (
            of["priority_rank"],
            of["contact_name"],
            of["account_number"],
        )
        assert currency == of["currency_code"]
        assert (money(overdue), money(balance)) == (
            Decimal(of["overdue_net"]),
            Decimal(of["balance"]),
        )
        assert days.startswith(of["days_overdue_min"])
        assert queue.replace("write-off ", "write_off_") == of["queue"]
        assert follow_up.split()[0] == of["coverage_status"]


def test_ages_and_follow_up_add_up_to_what_is_overdue(rich):
    page = page_of(rich)
    for currency in ("EUR", "JPY"):
        total = sum(
            Decimal(r["overdue_net"]) for r in csv_of(rich) if r["currency_code"] == currency
        )
        _, *ages, last = page.tables[f"Overdue {currency} by age"]
        assert [age for age, *_ in ages] == sorted(
            (age for age, *_ in ages), key=lambda age: (age == "age unknown", age)
        )
        assert sum(money(row[1]) for row in ages) == money(last[1]) == total
        _, *rows = page.tables[f"Follow-up of overdue accounts, {currency}"]
        assert sum(money(row[2]) for row in rows) == total
        assert sum(int(row[1]) for row in rows) == (130 if currency == "EUR" else 12)


def test_every_chart_has_a_name_and_a_table_behind_it(rich):
    page = page_of(rich)
    charts = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(charts) == 4
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    for attrs in charts:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= ids
    assert page.source.count("The figures as a table") == 4
    _, *days = page.tables["Overdue EUR, day by day, newest first"]
    assert len(days) == 30
    assert days[0][0] == str(AS_OF)
    assert days[0][3] in page.text
    # Ids of two charts must not meet.
    assert len(ids) == sum("id" in attrs for _, attrs in page.elements)


def test_charts_never_write_an_amount_that_went_through_a_float():
    huge = Decimal("12345678901234567890123456789012.3456")
    drawn = bars([Bar("1-30", huge, amount(huge, 2)), Bar("none", Decimal(0), "0.00")])
    assert "12,345,678,901,234,567,890,123,456,789,012.3456" in drawn.body
    drawn = trend([Point(AS_OF, huge, True), Point(AS_OF + timedelta(days=1), huge * 2, False)])
    written = re.findall(r">([\d,]+)<", drawn.body)
    assert written == ["0", *(f"{n}{',000' * 10}" for n in ("5", "10", "15", "20"))]


# --- what is known, and when ---


def test_the_day_and_the_freshness_are_stated(rich):
    text = page_of(rich).text
    assert "Overdue debt as of 2026-10-31" in text
    assert "Accounts last read completely 2026-10-31 05:15 UTC" in text
    assert "Page made 2026-10-31 08:15 UTC" in text
    assert "Before you rely" not in text


@pytest.mark.parametrize(
    ("hours", "said"), [(25, None), (27, "late: .* 27 hours"), (75, "stale: .* 3 days")]
)
def test_figures_that_grew_old_say_so(rich, hours, said):
    text = page_of(rich, made_at=(READ_AT + timedelta(hours=hours)).replace(tzinfo=UTC)).text
    assert bool(re.search("The figures are (late|stale)", text)) == bool(said)
    if said:
        assert re.search(f"The figures are {said} before this page was made", text)


def test_a_run_that_proved_nothing_is_told_before_any_figure(warehouse):
    fill(warehouse, debtors(2), verdict="unproven")
    text = page_of(warehouse).text
    assert "latest run of accounts could not show that it read everything" in text
    assert text.index("Before you rely") < text.index("How much is overdue")


def test_gaps_are_told(rich):
    """Accounts that were not read, days without a reading, and anomalies with what to do."""
    page = page_of(rich)
    _, *gaps = page.tables["Gaps in what was read"]
    assert [row[:3] for row in gaps] == [[c, "0", "1"] for c in ("CHF", "EUR", "JPY")]
    assert re.match(r"\d+, 2026-10-\d\d to 2026-10-\d\d$", gaps[0][3])
    _, *odd = page.tables["Anomalies by kind"]
    assert [(what, n) for what, _, n in odd] == [
        ("An activity's date cannot be right", "1"),
        ("More is overdue than is owed", "1"),
    ]
    _, *each = page.tables["Each account and activity that breaks a rule"]
    assert ["More is overdue than is owed", "account E000001", "EUR", "1,234.56", "-"] in each


def test_every_rule_of_the_anomalies_is_explained():
    sql = (PROJECT_DIR / "models/marts/crmcom__data_anomalies.sql").read_text()
    assert set(RULES) == set(re.findall(r"'(\w+)' as rule", sql)) | {"overdue_exceeds_balance"}


# --- odd warehouses ---


def test_an_empty_warehouse_says_so(warehouse):
    fill(warehouse, [], tenants=())
    text = page_of(warehouse).text
    assert "There are no accounts: nothing has been loaded yet." in text
    assert "No account is overdue" in text


def test_nothing_overdue_says_so(warehouse):
    fill(warehouse, [])
    page = page_of(warehouse)
    assert "Overdue, CHF 0.00" in page.text
    assert "Nothing is overdue, nor was on any day since 2026-10-02" in page.text
    assert not any(tag == "svg" for tag, _ in page.elements)


def test_one_observed_day_has_no_trend(warehouse):
    fill(warehouse, debtors(3), days=1)
    page = page_of(warehouse)
    assert "No trend yet: only one day has been observed (2026-10-31)" in page.text
    assert sum(tag == "svg" for tag, _ in page.elements) == 1


def test_a_long_history_is_told_by_weeks(warehouse):
    fill(warehouse, debtors(3), days=120)
    warehouse.run(
        "insert into crmcom_reports.overdue_kpis select * replace"
        " (date '2026-10-19' as period_start_date, date '2026-10-25' as period_end_date)"
        " from crmcom_reports.overdue_kpis where period = 'week'"
    )
    _, *weeks = page_of(warehouse).tables["Overdue EUR, week by week, newest first"]
    assert [row[0] for row in weeks] == ["2026-10-31", "2026-10-25"]


def test_marts_that_are_not_there_are_named(filled):
    """A warehouse with two marts only still gets its worklist."""
    page = page_of(filled)
    assert "this warehouse has no reports overdue_ageing and overdue_kpis" in page.text
    assert len(page.worklist) == 3
    assert "not on record" in page.text


def test_tenants_are_kept_apart(warehouse):
    mine = debtors(3)
    theirs = debtors(2, source_relation="other")
    fill(warehouse, mine + theirs, tenants=("crmcom", "other"))
    page = page_of(warehouse)
    for tenant, rows in (("crmcom", mine), ("other", theirs)):
        figures = dict(page.tables[f"Figures, {tenant}, EUR"])
        assert figures["Accounts overdue"].startswith(f"{len(rows)} of")
        assert amount(sum(r["overdue_net"] for r in rows), 2) in page.text
    assert amount(sum(r["overdue_net"] for r in mine + theirs), 2) not in page.source
    assert [row[4] for row in page.worklist] == ["crmcom"] * 3 + ["other"] * 2


def test_amounts_that_are_negative_unknown_or_huge_are_shown_as_they_are(warehouse):
    huge = Decimal("9999999999999999999999999999999.1234")
    rows = debtors(3)
    rows[0].update(overdue_net=huge, overdue_gross=huge)
    rows[1].update(balance=Decimal("-12.345"), overdue_net=Decimal(0))
    rows[2].update(balance=None, overdue_net=None)
    fill(warehouse, rows)
    page = page_of(warehouse)
    first, second, third = page.worklist
    gross = page.tables["Overdue accounts, the most urgent of each currency first"][0].index(
        "Gross"
    )
    assert money(first[5]) == huge
    assert (second[5], second[gross], second[gross + 1]) == ("0.00", "2,469,136.75", "-12.345")
    assert (third[5], third[gross + 1]) == ("-", "-")
    assert "Overdue before capping" in page.text
    assert "and 1 not known" in page.text
    assert page.tables["Gaps in what was read"][2][:2] == ["EUR", "1"]


HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "--></style><!--",
    "{{ 7 * 7 }}",
    "'\"&amp;",
    "\u202etxt.exe",
    "😀 مرحبا",
    "x" * 5000,
    "a\x00b\x1b[31m\u2028c",
)


def test_no_text_of_a_tenant_becomes_markup(warehouse):
    """In the rows that are HTML as in those that are data."""
    rows = debtors(101 + len(HOSTILE), "<b>", state="</td>")
    for row, text in zip([*rows[: len(HOSTILE)], *rows[101:]], HOSTILE * 2, strict=True):
        row.update(contact_name=text, account_number=text, contact_phone=text)
    odd = [a | {"detail": text, "account_number": text} for a in ANOMALIES for text in HOSTILE]
    fill(warehouse, rows, anomalies=odd)
    page = page_of(warehouse)
    usual = {tag for tag, _ in page_of_usual(warehouse).elements}
    assert {tag for tag, _ in page.elements} <= usual | {"noscript", "path", "g", "svg"}
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    names = [row[1] for row in page.worklist]
    assert names[: len(HOSTILE)] == names[101:]
    assert names[0] == HOSTILE[0]
    assert names[5] == "\N{REPLACEMENT CHARACTER}txt.exe"
    assert names[7] == HOSTILE[7]


def page_of_usual(warehouse):
    fill(warehouse, debtors(3), anomalies=ANOMALIES)
    return page_of(warehouse)


def test_the_page_forbids_itself_the_network(rich):
    page = page_of(rich)
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    links = {a.get("src") or a.get("href") for _, a in page.elements} - {None}
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert not re.search(r"url\(|@import|https?://", page.source)


def test_fifty_thousand_rows_make_a_page_that_can_be_sent(warehouse):
    """Most of them as data: what is laid out at once stays small."""
    fill(warehouse, debtors(50_000))
    page = page_of(warehouse)
    assert len(page.source.encode()) < 12_000_000
    assert sum(tag == "tr" for tag, _ in page.elements) < 400
    assert len(page.worklist) == 50_000


def test_rows_that_the_page_does_not_hold_are_counted(warehouse, monkeypatch):
    fill(warehouse, debtors(30))
    page = page_of(warehouse, limit=7)
    assert len(page.worklist) == 7
    assert "The page holds 7 of 30 accounts. All of them: crmcom report overdue" in page.text
    assert "30 of 40" in page.text


# --- commands ---


def crmcom(*args):
    return CliRunner().invoke(main, ["report", *map(str, args)])


def test_any_mart_is_a_page(filled, tmp_path):
    done = crmcom(
        "mystery", "--format", "html", "-o", tmp_path / "m.html", "--database", filled.path
    )
    assert done.exit_code == 0, done.output
    page = Page((tmp_path / "m.html").read_text())
    header, *rows = page.tables["mystery"]
    assert header == ["source_relation", "note", "amount", "ratio", "day", "number", "flag"]
    assert ["a", "=1+1", "-", "-", "2026-10-31", "7", "yes"] in rows


def test_all_reports_go_into_a_folder_with_an_index(rich, tmp_path):
    rich.run('create table crmcom_reports."index" as select 1 as one')
    rich.run('create table crmcom_reports."a/b" as select 1 as one')
    folder = tmp_path / "report"
    done = crmcom("--all", "--format", "html", "-o", folder, "--database", rich.path)
    assert done.exit_code == 0, done.output
    index = Page((folder / "index.html").read_text())
    assert len(index.worklist) == 142
    linked = {
        a["href"] for tag, a in index.elements if tag == "a" and not a["href"].startswith("#")
    }
    assert {file.name for file in folder.iterdir()} == linked | {"index.html"}
    assert {"overdue_worklist.html", "index_2.html", "a_b.html"} <= linked
    back = Page((folder / "balance_summary.html").read_text())
    assert ("a", {"href": "index.html"}) in back.elements
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "table"])
def test_all_reports_go_into_a_folder_in_any_format(filled, tmp_path, kind):
    done = crmcom("--all", "--format", kind, "-o", tmp_path / "r", "--database", filled.path)
    assert done.exit_code == 0, done.output
    suffix = "txt" if kind == "table" else kind
    assert {f.name for f in (tmp_path / "r").iterdir()} == {
        f"{name}.{suffix}" for name in ("overdue_worklist", "balance_summary", "mystery")
    }


def test_a_run_that_fails_leaves_the_folder_as_it_was(filled, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "index.html").write_text("the last one")
    (folder / "mine.txt").write_text("not ours")
    filled.run("create view crmcom_reports.zz as select error('broken') as one")
    done = crmcom("--all", "--format", "html", "-o", folder, "--database", filled.path)
    assert done.exit_code == 2
    assert "broken" in done.output
    assert (folder / "index.html").read_text() == "the last one"
    assert len(list(folder.iterdir())) == 2
    filled.run("drop view crmcom_reports.zz")
    assert (
        crmcom("--all", "--format", "html", "-o", folder, "--database", filled.path).exit_code == 0
    )
    assert "Overdue debt" in (folder / "index.html").read_text()
    assert (folder / "mine.txt").read_text() == "not ours"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--all"], "--output"),
        (["--all", "overdue", "-o", "x"], "leave out 'overdue'"),
        (["overdue", "--format", "html"], None),
        (["--all", "--format", "html", "-o", "no/such/folder"], "cannot write"),
    ],
)
def test_what_cannot_be_asked_for_is_said(filled, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    done = crmcom(*args, "--database", filled.path)
    if said is None:
        assert done.exit_code == 0
        assert done.stdout.startswith("<!DOCTYPE html>")
    else:
        assert done.exit_code == 2
        assert said in done.output


def test_without_the_extra_it_says_what_to_install(filled, tmp_path, monkeypatch):
    real = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *a: None if name == "altair" else real(name, *a)
    )
    done = crmcom("overdue", "--format", "html", "-o", tmp_path / "x", "--database", filled.path)
    assert done.exit_code == 2
    assert "crmcom-warehouse[html]" in done.output
    assert not list(tmp_path.glob("x*"))


def test_a_page_of_the_past_says_that_it_is_one(rich):
    """And counts no run that came later; it is no older for having been asked for."""
    late = datetime(2026, 12, 1, tzinfo=UTC)
    page = page_of(rich, made_at=late, is_past=True, known_at=READ_AT - timedelta(hours=1))
    assert "2026-10-31, as asked" in page.text
    assert "As known at 2026-10-31 04:15 UTC" in page.text
    assert "2026-10-31 05:15" not in page.text
    assert "stale" not in page.text.partition("How much is overdue")[0]
    assert date(2026, 10, 31) == AS_OF
