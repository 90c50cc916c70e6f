"""The table for people: currencies apart, totals right, nothing cut."""

from __future__ import annotations

import io
import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from crmcom_pipelines import report
from crmcom_pipelines.formats import Report
from crmcom_pipelines.money import amount, digits, usual_decimals
from crmcom_pipelines.render import write_table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(warehouse, name="overdue", limit=None, stream=None):
    stream = stream or io.StringIO()
    report.write(name, database=warehouse.path, limit=limit, stream=stream)
    return stream.getvalue()


@pytest.fixture
def on_terminal(monkeypatch):
    def show(warehouse, width, name="overdue"):
        monkeypatch.setenv("COLUMNS", str(width))
        return shown(warehouse, name, stream=Terminal())

    return show


def plain(text):
    return re.sub(r"\x1b\[\d*m", "", text)


def test_the_worklist_says_whom_to_call_about_how_much(filled):
    text = shown(filled)
    eur, jpy = text.split("\n\n")
    assert eur.startswith("Overdue accounts, EUR, as of 2026-10-31\n")
    assert jpy.startswith("Overdue accounts, JPY, as of 2026-10-31\n")
    assert re.search(
        r"^2  Ελένη Παπαδοπούλου +\+357 22 123456 +A-0002 +1,100.00 +1,200.50", eur, re.M
    )
    assert re.search(
        r"^1  Maximiliane .* max@example.com +A-0001 +1,234,567.8912 .* 31\+", eur, re.M
    )
    assert re.search(r"Total EUR +2 accounts +1,235,667.8912", eur)
    assert re.search(r"山田太郎 +\+357 22 123456 +A-0001 +123,456 ", jpy)
    assert re.search(r"Total JPY +1 account +123,456 ", jpy)


def test_balances_add_up_within_a_currency_only(filled):
    text = shown(filled, "balances")
    assert re.search(r"Total EUR +20 +1 +2,000.00 +100.00 +1,900.00 +500.00 +25.0 %", text)
    assert re.search(r"Total KWD +10 +1.2345 +50.000 +950.000", text)
    assert text.index("ACTIVE") < text.index("TERMINATED")


def test_a_table_that_is_not_on_a_terminal_is_plain(filled, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    assert "\x1b" not in shown(filled)
    assert "Maximiliane von Hohenstein-Wittelsbach zu Sankt Augustin" in shown(filled)


def test_columns_line_up_whatever_the_script(filled):
    for section in shown(filled).split("\n\n"):
        _, heading, *rows = section.splitlines()
        start = cell_len(heading[: heading.index("phone")])
        for row in rows:
            if "+357" in row:
                assert cell_len(row[: row.index("+357")]) == start


def test_a_limit_shows_the_first_rows_of_each_currency_and_totals_of_all(filled):
    eur, jpy = shown(filled, limit=1).split("\n\n")
    assert "Total EUR" in eur
    assert "1,235,667.8912" in eur
    assert "Ελένη" not in eur
    assert "1 more account, counted in the total: raise --limit" in eur
    assert "Total JPY" in jpy
    assert "more account" not in jpy, "its one account is its first"
    assert "more" not in shown(filled, limit=3)
    assert "1 more row: raise --limit" in shown(filled, "mystery", limit=1)
    assert "2 more rows: raise --limit" in shown(filled, "mystery", limit=0)


def test_tenants_are_kept_apart(warehouse, worklist):
    rows = [worklist(1, source_relation=name, overdue_net=Decimal(7)) for name in ("acme", "beta")]
    warehouse.put("overdue_worklist", *rows)
    acme, beta = shown(warehouse).split("\n\n")
    assert acme.startswith("Overdue accounts, acme, EUR, as of")
    assert beta.startswith("Overdue accounts, beta, EUR, as of")
    assert re.search(r"Total EUR +1 account +7.00", acme)


def test_an_unknown_currency_says_so(warehouse, worklist):
    warehouse.put("overdue_worklist", worklist(1, currency_code="XXX"))
    assert "currency unknown (XXX)" in shown(warehouse)


def test_an_empty_worklist_is_good_news_with_a_date(filled):
    filled.put("overdue_worklist")
    assert shown(filled) == "No account is overdue, as of 2026-10-31.\n"
    filled.put("balance_summary")
    assert shown(filled) == "No account is overdue: nothing has been loaded yet.\n"
    filled.put("mystery")
    assert shown(filled, "mystery").startswith("There are no rows")


def test_a_mart_nobody_knows_is_shown_with_all_its_columns(filled, on_terminal):
    text = shown(filled, "mystery")
    assert text.splitlines()[1].split() == [
        *("source_relation", "note", "amount", "ratio", "day", "number", "flag")
    ]
    assert re.search(r"^a +=1\+1 +- +- +2026-10-31 +7 +yes$", text, re.M)
    assert re.search(r"^b +- +-5.00", text, re.M)
    assert "source_relation  a\nnote             =1+1\n" in on_terminal(filled, 30, "mystery")


def test_a_worklist_without_the_columns_people_read_is_still_shown(filled):
    filled.run("alter table crmcom_reports.overdue_worklist drop column queue")
    assert "overdue_gross" in shown(filled)


def test_a_narrow_terminal_loses_columns_by_name_and_never_digits(filled, on_terminal):
    wide = on_terminal(filled, 200)
    assert wide.startswith("\x1b[1mOverdue accounts, EUR")
    assert "Left out" not in wide
    narrow = plain(on_terminal(filled, 100))
    assert "Left out, the terminal is too narrow: balance, follow-up." in narrow
    assert max(cell_len(line) for line in narrow.splitlines()) <= 100
    assert "#          1\nname       Maximiliane von Hohenstein" in plain(on_terminal(filled, 60))


def test_a_name_cannot_steer_the_terminal(warehouse, worklist):
    nasty = "\x1b[31mred\x07\r\nnext\u202e[bold]:smile:"
    warehouse.put("overdue_worklist", worklist(1, contact_name=nasty))
    assert "�[31mred�  next�[bold]:smile:" in shown(warehouse)


def test_a_long_section_is_written_in_blocks_with_one_total(filled):
    filled.run(
        "insert into crmcom_reports.overdue_worklist select w.* replace (n + 10 as priority_rank)"
        " from crmcom_reports.overdue_worklist w, range(12000) t(n) where currency_code = 'JPY'"
    )
    text = shown(filled)
    assert len(re.findall("山田太郎", text)) == 12_001
    assert re.search(r"Total JPY +12,001 accounts +1,481,595,456 ", text)


AMOUNTS = st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-4"))


@given(
    accounts=st.lists(st.tuples(AMOUNTS, st.text(max_size=60)), min_size=1, max_size=4),
    width=st.integers(1, 200) | st.none(),
    currency=st.sampled_from(["EUR", "JPY", "KWD", "XXX"]),
)
@settings(max_examples=60, deadline=None)
def test_no_number_is_cut_at_any_width(in_memory, worklist, accounts, width, currency):
    """Every amount stands in the text with all its digits, and so does their exact sum."""
    rows = [
        worklist(rank, overdue_net=n, overdue_gross=n, currency_code=currency, contact_name=name)
        for rank, (n, name) in enumerate(accounts, 1)
    ]
    out = io.BytesIO()
    with in_memory("overdue_worklist", rows) as mart:
        write_table(Report(mart, terminal_width=width), out)
    words = plain(out.getvalue().decode()).split()
    total = sum(int(f"{n:.4f}".replace(".", "")) for n, _ in accounts)
    for exact in (*(n for n, _ in accounts), Decimal(f"{total}e-4")):
        expected = amount(exact, usual_decimals(currency))
        assert expected in words
        assert Decimal(expected.replace(",", "")) == exact


@pytest.mark.parametrize(
    ("number", "currency", "expected"),
    [
        ("1234.5000", "EUR", "1,234.50"),
        ("1234.0000", "JPY", "1,234"),
        ("1234.5000", "JPY", "1,234.5"),
        ("0.1000", "KWD", "0.100"),
        ("0.1234", "EUR", "0.1234"),
        ("-1234567.0000", None, "-1,234,567.00"),
        ("-0.5000", "EUR", "-0.50"),
        ("0.0000", "EUR", "0.00"),
    ],
)
def test_amounts_have_the_usual_decimals_and_all_that_are_there(number, currency, expected):
    assert amount(Decimal(number), usual_decimals(currency)) == expected


def test_digits_are_plain_and_complete():
    assert digits(Decimal("1E+3")) == "1000"
    assert digits(Decimal("9" * 34 + ".9990")) == "9" * 34 + ".999"
    assert digits(100) == "100"
