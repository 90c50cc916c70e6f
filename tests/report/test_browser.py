"""The page in a real browser: it renders, sorts, filters and prints, without a network."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from datetime import UTC
from decimal import Decimal, localcontext
from importlib.resources import files
from itertools import pairwise
from types import SimpleNamespace

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from crmcom_pipelines.formats import Report
from crmcom_pipelines.html import write_html
from crmcom_pipelines.marts import open_mart

from .conftest import Warehouse
from .debts import ANOMALIES, READ_AT, debtors, fill
from .test_page import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on this machine: the page was opened in no browser",
)
HUGE = Decimal(f"1{'0' * 29}1")
"""A digit more than a `Decimal` keeps by default, and fifteen more than a float."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1280,900"),
)


def made(path, accounts, **how):
    """A page of these accounts."""
    warehouse = Warehouse(path.with_suffix(".duckdb"))
    fill(warehouse, accounts, **how)
    with (
        open_mart("overdue", database=warehouse.path, dataset="crmcom") as mart,
        path.open("wb") as out,
    ):
        write_html(Report(mart, made_at=READ_AT.replace(tzinfo=UTC)), out)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    odd = debtors(12)
    for row, text in zip(odd, HOSTILE, strict=False):
        row.update(contact_name=text, account_number=text)
    odd[9].update(overdue_net=Decimal("-0.5"), balance=Decimal("-12.345"))
    odd[10].update(overdue_net=None, balance=None)
    odd[11].update(overdue_net=HUGE, overdue_gross=HUGE)
    capped = [row for currency in ("EUR", "KWD", "USD") for row in debtors(12, currency)]
    for row in capped:
        row.update(overdue_gross=row["overdue_gross"] + 100)
    return SimpleNamespace(
        usual=made(
            folder / "usual.html", debtors(130) + debtors(12, "JPY"), anomalies=ANOMALIES, days=60
        ),
        odd=made(folder / "odd.html", odd, verdict="failed"),
        capped=made(folder / "capped.html", capped, days=60),
        empty=made(folder / "empty.html", [], tenants=()),
        huge=made(folder / "huge.html", debtors(50_000)),
    )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Tab:
    """The browser with a page, and what a reader does there."""

    def __init__(self, driver):
        self.driver = driver
        self.js = driver.execute_script

    def open(self, path, *, width=1280, dark=False, media=""):
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.cdp("Emulation.setEmulatedMedia", media=media, features=features)
        metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 800}
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)
        self.driver.get(f"file://{path}")
        return self

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def heading(self, text):
        return next(e for e in self.all("#worklist thead th") if e.text.strip(" ↕↑↓\n") == text)

    def sort(self, text):
        self.heading(text).find_element(By.TAG_NAME, "button").click()

    def cells(self, heading):
        """The shown rows' texts under a heading."""
        return self.js(
            "const [name] = arguments, table = document.querySelector('#worklist table');"
            "const i = [...table.tHead.rows[0].cells].findIndex(c => c.textContent === name);"
            "return [...table.tBodies[0].rows].map(row => row.cells[i].textContent)",
            heading,
        )

    @property
    def count(self):
        return self.one("#worklist [role=status]").text

    def choose(self, label, value):
        box = next(e for e in self.all("#worklist label") if e.text.startswith(label))
        Select(box.find_element(By.TAG_NAME, "select")).select_by_value(value)

    @property
    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    @property
    def requests(self):
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        urls = [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith(("chrome:", "about:", "data:"))]

    def pdf(self):
        return base64.b64decode(self.cdp("Page.printToPDF", preferCSSPageSize=True)["data"])


@pytest.fixture
def tab(chromium):
    return Tab(chromium)


def number(text):
    found = re.match(r"-?[\d,]+(\.\d+)?", text)
    return Decimal(found[0].replace(",", "")) if found else None


@pytest.mark.parametrize("which", ["usual", "odd", "empty", "huge"])
def test_it_opens_without_an_error_and_without_a_network(tab, pages, which):
    """The file itself is all that is asked for, and the console stays empty."""
    page = getattr(pages, which)
    tab.open(page)
    assert tab.one("h1").text.startswith("Overdue debt")
    assert tab.requests == [f"file://{page}"]
    assert tab.complaints == []


@pytest.mark.parametrize("heading", ["Overdue", "Balance"])
def test_amounts_are_sorted_as_numbers_within_their_currency(tab, pages, heading):
    tab.open(pages.usual)
    for direction in ("ascending", "descending"):
        tab.sort(heading)
        assert tab.heading(heading).get_attribute("aria-sort") == direction
        assert len(tab.all("#worklist th[aria-sort]")) == 1
        found = [number(text) for text in tab.cells(heading)]
        assert set(tab.cells("Currency")) == {"EUR"}
        assert found == sorted(found, reverse=direction == "descending")
    tab.one("#worklist [data-step='1']").click()
    currencies = tab.cells("Currency")
    assert currencies == sorted(currencies)
    assert set(currencies) == {"EUR", "JPY"}


def test_names_are_sorted_as_text(tab, pages):
    tab.open(pages.usual)
    tab.sort("Customer")
    found = tab.cells("Customer")
    assert found == tab.js(
        "return [...arguments[0]].sort(new Intl.Collator(undefined, {numeric: true}).compare)",
        found,
    )
    assert len(set(found)) > 50


def test_what_is_not_known_comes_last_and_no_digit_is_lost(tab, pages):
    """Of amounts, of which the largest has more digits than a float."""
    tab.open(pages.odd)
    for _ in range(2):
        tab.sort("Overdue")
        assert tab.cells("Overdue")[-1] == "-"
    assert tab.cells("Overdue")[0] == "1,000,000,000,000,000,000,000,000,000,001.00"
    assert tab.cells("Overdue")[-2] == "-0.50"
    shown = [number(text) for text in tab.cells("Overdue")[:-1]]
    (total,) = re.findall(r"EUR ([\d,.]+) and 1 not known", tab.count)
    with localcontext(prec=60):
        assert number(total) == sum(shown)


def test_a_name_is_text_whatever_it_holds(tab, pages):
    tab.open(pages.odd)
    assert HOSTILE[0] in tab.cells("Customer")
    assert not tab.all("#worklist img")


def test_typing_finds_rows_and_says_how_many(tab, pages):
    """Words in any order, without regard to case and accents; the sum is that of what is shown."""
    tab.open(pages.usual)
    assert tab.count.startswith("142 accounts, 1 to 100 shown · EUR ")
    tab.one("#worklist [data-find]").send_keys("novak NOEL")
    names = tab.cells("Customer")
    assert names
    assert all(name.startswith("Noël Novák") for name in names)
    said = re.match(r"(\d+) of 142 accounts · EUR ([\d,.]+) · JPY ([\d,.]+)$", tab.count)
    assert int(said[1]) == len(names)
    for currency, total in (("EUR", said[2]), ("JPY", said[3])):
        rows = zip(tab.cells("Currency"), tab.cells("Overdue"), strict=True)
        assert number(total) == sum(number(text) for of, text in rows if of == currency)
    tab.one("#worklist [type=reset]").click()
    assert tab.count.startswith("142 accounts")
    tab.one("#worklist [data-find]").send_keys("nobody at all")
    assert tab.count == "0 of 142 accounts"


def test_choices_narrow_the_rows_together(tab, pages):
    tab.open(pages.usual)
    tab.choose("Currency", "JPY")
    assert set(tab.cells("Currency")) == {"JPY"}
    tab.choose("Follow-up", "covered")
    assert len(tab.cells("Follow-up")) < 12
    assert {text.split()[0] for text in tab.cells("Follow-up")} == {"covered"}
    assert "EUR" not in tab.count


def test_it_works_with_the_keyboard_alone(tab, pages):
    """From the top of the page to a sorted column, and the focus can be seen."""
    tab.open(pages.usual)

    def press(*keys):
        ActionChains(tab.driver).send_keys(*keys).perform()

    press(Keys.TAB)
    assert tab.driver.switch_to.active_element.text == "Skip to the figures"
    press(Keys.ENTER)
    for _ in range(60):
        press(Keys.TAB)
        focused = tab.driver.switch_to.active_element
        if focused.tag_name == "button" and focused.text.startswith("Balance"):
            break
    else:
        pytest.fail("the heading was not reached")
    style = "return getComputedStyle(document.activeElement).outlineStyle"
    assert tab.js(style) == "solid"
    press(Keys.SPACE)
    assert tab.heading("Balance").get_attribute("aria-sort") == "ascending"
    press(Keys.ENTER)
    assert tab.heading("Balance").get_attribute("aria-sort") == "descending"
    assert tab.driver.switch_to.active_element.text.startswith("Balance")


def test_fifty_thousand_rows_stay_usable(tab, pages):
    """Every action answers within a second or two, and few rows are laid out at once."""
    tab.open(pages.huge)
    loaded_ms = tab.js("return performance.getEntriesByType('navigation')[0].domComplete")
    assert loaded_ms < 10_000
    assert len(tab.all("#worklist tbody tr")) == 100
    taken_ms = tab.js(
        "const t = performance.now(), root = document.querySelector('#worklist');"
        "root.querySelectorAll('thead button')[1].click();"
        "const find = root.querySelector('[data-find]'); find.value = 'telecom';"
        "find.dispatchEvent(new Event('input', {bubbles: true})); return performance.now() - t"
    )
    assert taken_ms < 10_000
    assert tab.count.startswith("6,250 of 50,000 accounts, 1 to 100 shown")


def texts_of(pdf, tmp_path):
    """What is written on each sheet."""
    if not shutil.which("pdftotext"):
        pytest.skip("no pdftotext (poppler-utils) on this machine: the print was not read")
    path = tmp_path / "page.pdf"
    path.write_bytes(pdf)
    done = subprocess.run(
        ["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True
    )
    return done.stdout.rstrip("\f").split("\f")


def test_it_prints(tab, pages):
    """Whole, on several sheets."""
    pdf = tab.open(pages.usual).pdf()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 4


def test_on_paper_every_row_is_there_under_repeated_headings(tab, pages, tmp_path):
    """No controls; and after printing the screen is as it was."""
    tab.open(pages.usual)
    everything = [*tab.cells("Account")]
    tab.one("#worklist [data-step='1']").click()
    everything += tab.cells("Account")
    sheets = texts_of(tab.pdf(), tmp_path)
    rows = [sheet for sheet in sheets if re.search(r"[EJ]\d{6}", sheet)]
    table = [sheet for sheet in sheets if re.search(r"^ *\d+ .*(E|J)\d{6} ", sheet, re.MULTILINE)]
    assert len(everything) == 142
    assert all(any(number in sheet for sheet in rows) for number in everything)
    assert len(table) > 3
    assert all("Customer" in sheet and "Overdue" in sheet for sheet in table)
    assert "as of 2026-10-31" in sheets[0]
    for control in ("Reset", "Skip to", "Next", "↕"):
        assert not any(control in sheet for sheet in sheets)
    assert len(tab.all("#worklist tbody tr")) == 100


CONTRASTS = """
const parse = text => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a];
};
const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
const light = rgb => rgb.map(c => c / 255)
  .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const ground = element => {
  const layers = [];
  for (let e = element; e; e = e.parentElement)
    layers.unshift(parse(getComputedStyle(e).backgroundColor));
  return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || element.closest('script, style, title, desc')) continue;
  if (!element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const below = ground(element);
  const ink = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const [x, y] = [light(over(parse(ink), below)), light(below)].sort((a, b) => b - a);
  found.push([(x + .05) / (y + .05), element.tagName + ' ' + element.textContent.slice(0, 40)]);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("which", ["usual", "odd"])
def test_all_text_can_be_read_in_light_and_dark(tab, pages, dark, which):
    """A contrast of 4.5 at least (WCAG AA), in charts as well."""
    tab.open(getattr(pages, which), dark=dark)
    tab.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    ground = tab.js("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) == dark
    contrasts = tab.js(CONTRASTS)
    assert len(contrasts) > 150
    assert [(round(c, 2), what) for c, what in contrasts if c < 4.5] == []


def test_bars_stand_out_from_the_ground(tab, pages):
    """A contrast of 3 at least (WCAG AA for graphics)."""
    for dark in (False, True):
        tab.open(pages.usual, dark=dark)
        fills = set(
            tab.js(
                "return [...document.querySelectorAll('.chart .mark-rect path')]"
                ".map(p => getComputedStyle(p).fill)"
            )
        )
        assert len(fills) == 2
        ground = tab.js("return getComputedStyle(document.body).backgroundColor")
        for fill_ in fills:
            assert contrast(fill_, ground) >= 3


def contrast(one, other):
    def light(rgb):
        parts = [int(n) / 255 for n in re.findall(r"\d+", rgb)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("which", ["usual", "odd", "empty"])
def test_a_phone_never_scrolls_sideways(tab, pages, width, which):
    tab.open(getattr(pages, which), width=width)
    tab.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.js("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("media", "width"),
    [*(("screen", width) for width in (320, 390, 768, 1024, 1280, 1920)), ("print", 700)],
)
def test_no_amount_of_the_headline_is_cut_off(tab, pages, media, width):
    tab.open(pages.capped, width=width, media=media)
    wide = "return [...document.querySelectorAll('.panel')].map(p => p.scrollWidth - p.clientWidth)"
    assert tab.js(wide) == [0, 0, 0, 0]


def test_on_a_phone_every_value_has_its_label(tab, pages):
    """And the rows can be sorted without the headings, which are not shown."""
    tab.open(pages.usual, width=390)
    label = tab.js(
        "const cell = document.querySelector('#worklist tbody td.n');"
        "return getComputedStyle(cell, '::before').content"
    )
    assert label == '"Rank"'
    tab.choose(
        "Sort by",
        str(
            tab.js(
                "return [...document.querySelectorAll('#worklist thead th')]"
                ".findIndex(th => th.textContent === 'Days')"
            )
        ),
    )
    days = [number(text) for text in tab.cells("Days")]
    assert days == sorted(days)


def test_what_a_screen_reader_needs_is_there(tab, pages):
    """A language, one h1, headings in order, names for every control, table and chart."""
    tab.open(pages.usual)
    assert tab.js("return document.documentElement.lang") == "en"
    levels = [int(e.tag_name[1]) for e in tab.all("h1, h2, h3, h4")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    tree = tab.cdp("Accessibility.getFullAXTree")["nodes"]

    def said(node, what):
        return node.get(what, {}).get("value")

    for role in ("button", "searchbox", "combobox", "table", "link", "image", "region"):
        nodes = [n for n in tree if not n.get("ignored") and said(n, "role") == role]
        assert nodes, role
        assert all(said(n, "name") for n in nodes), role
    ids = tab.js("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert tab.all("tbody tr")
    assert not tab.all("tbody tr:not(:has(th[scope=row]))")


def test_axe_finds_nothing(tab, pages):
    axe = files("axe_core_python") / "axe.min.js"
    tab.driver.set_script_timeout(300)
    for dark in (False, True):
        tab.open(pages.usual, dark=dark)
        tab.cdp("Page.setBypassCSP", enabled=True)
        tab.js("document.querySelectorAll('details').forEach(d => d.open = true)")
        tab.js(axe.read_text())
        found = tab.driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(r => done(r.violations))"
        )
        tab.cdp("Page.setBypassCSP", enabled=False)
        assert [(v["id"], v["nodes"][0]["html"]) for v in found] == []


@pytest.mark.parametrize("which", ["usual", "huge"])
def test_without_scripts_the_first_rows_are_there(tab, pages, which):
    tab.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(getattr(pages, which))
        rows = tab.all("#worklist tbody tr")
        assert len(rows) == 100
        assert "need scripts to be shown" in tab.one("#worklist").text
        assert not tab.one("#worklist form").is_displayed()
    finally:
        tab.cdp("Emulation.setScriptExecutionDisabled", value=False)
