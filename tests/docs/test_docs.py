"""The docs say what is true: their commands run, their links lead somewhere, their names exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from crmcom_pipelines.cli import main
from crmcom_sandbox import serve_process

ROOT = Path(__file__).parents[2]


def tracked():
    """Paths that belong to the project: committed, or about to be."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return sorted(f for f in listed if f and (ROOT / f).is_file())


PAGES = [f for f in tracked() if f.endswith(".md")]
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}


def blocks(page, *languages):
    found = re.findall(r"^```(\w+)\n(.*?)^```$", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def anchors(text):
    """The ids that headings get where the page is shown."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


# --- commands ---

SMALL = "--contacts 60 --activities 150 --days 1"
TENANT = "https://app.crm.com/backoffice/v2"
SETTINGS = f"export SOURCES__CRMCOM__BASE_URL={TENANT} SOURCES__CRMCOM__API_KEY=your-secret-key\n"


@pytest.fixture(scope="module")
def tenant():
    """Stands for the reader's own tenant."""
    with serve_process("--contacts", "60", "--activities", "150", "--behaviour", "live") as server:
        yield server


def run(script, tenant, folder):
    """Run a shell script as a reader would, with the checkout's `.venv` beside it."""
    for written, meant in (
        (TENANT, tenant.base_url),
        ("your-secret-key", tenant.api_key),
        ("make demo", f"crmcom demo {SMALL}"),
        ("make test", "true"),
        ("/srv/crmcom", str(folder)),
        ("--location " + str(folder), f"--location {ROOT}"),
    ):
        script = script.replace(written, meant)
    venv = folder / ".venv"
    if not venv.exists():
        venv.symlink_to(sys.prefix)
    env = {k: v for k, v in os.environ.items() if "__" not in k}
    env |= {
        "PATH": f"{sys.prefix}/bin{os.pathsep}{env['PATH']}",
        "HOME": str(folder),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
def test_the_readme_works_from_top_to_bottom(tenant, tmp_path):
    """Every shell block, in order, in one folder; what one leaves, the next one finds."""
    for script in blocks("README.md", "sh"):
        run(script, tenant, tmp_path)
    assert (tmp_path / "overdue.xlsx").exists()
    assert (tmp_path / "my-pipeline/crmcom_pipeline.py").exists()


@pytest.mark.slow
def test_the_shell_blocks_of_the_other_pages_run(tenant, tmp_path):
    """In order, in one folder for each page, against a tenant."""
    for page in PAGES:
        folder = tmp_path / page.replace("/", "-")
        folder.mkdir()
        for script in blocks(page, "sh") if page != "README.md" else ():
            run(SETTINGS + script, tenant, folder)


def test_the_line_for_cron_is_silent_when_all_is_well(tenant, tmp_path):
    """And shows what is wrong when something is: cron sends what is written."""
    ((line,),) = (block.splitlines() for block in blocks("README.md", "cron"))
    schedule, command = line.split("  ", 1)
    assert len(schedule.split()) == 5
    assert run(SETTINGS + command, tenant, tmp_path).stdout == ""
    assert (tmp_path / "finance.duckdb").exists()
    assert "base_url" in run(command, tenant, tmp_path).stdout


# --- names ---


def commands_named(text):
    """Each `crmcom …` of code in a page, as words."""
    code = re.findall(r"`([^`\n]+)`", text)
    code += "\n".join(re.findall(r"```(?:sh|cron)\n(.*?)```", text, flags=re.DOTALL)).splitlines()
    for line in code:
        if call := re.search(r"(?:^|/|&& |… )crmcom( --debug)? ([a-z]+\b.*)$", line):
            yield re.split(r"\s*(?:\|\||2?>)", call[2])[0]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_is_named_exists(page):
    for call in commands_named(TEXTS[page]):
        name, *words = shlex.split(call)
        assert name in main.commands, call
        help_text = CliRunner().invoke(main, [name, "--help"]).output
        for word in words:
            if word.startswith("--"):
                option = re.escape(word.partition("=")[0])
                assert re.search(rf"(^|\s|,){option}\b", help_text), call


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_alone_exists(page):
    """As in "`--json` gives the same"."""
    known = "\n".join(CliRunner().invoke(main, [c, "--help"]).output for c in main.commands)
    for option in re.findall(r"`(--[a-z-]+)[^`]*`", TEXTS[page]):
        assert re.search(rf"\s{re.escape(option)}\b", known), option


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make (?:PYTHON=\S+ )?([a-z-]+)`", TEXTS[page])
    named += re.findall(r"^make ([a-z-]+)", "\n".join(blocks(page, "sh")), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    """To a file of the project, and to a heading in it; what lies outside is not asked."""
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text()), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_with_its_folder_exists(page):
    for path in re.findall(
        r"`((?:sources|pipelines|transforms|sandbox|tests|docs)/[^`*<\s]*)`", TEXTS[page]
    ):
        if path != "sources/crmcom/orders.py":  # the example of the recipe
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("package", ["sources/crmcom", "pipelines/crmcom_pipelines"])
def test_the_architecture_has_a_line_for_every_file(package):
    """And for none that is not there."""
    chapters = re.split(r"^## ", TEXTS["docs/architecture.md"], flags=re.MULTILINE)
    heading = {"sources/crmcom": "The source,", "pipelines/crmcom_pipelines": "The pipelines"}
    (chapter,) = (c for c in chapters if c.startswith(heading[package]))
    rows = "".join(line.split("|")[1] for line in chapter.splitlines() if line.startswith("| `"))
    files = {Path(f).name for f in tracked() if re.fullmatch(rf"{package}/(?!__)\w+\.py", f)}
    assert set(re.findall(r"`(\w+\.py)`", rows)) == files


@pytest.mark.parametrize("page", ["commands", "settings"])
def test_the_reference_is_what_the_code_says(page):
    """`make docs` writes it anew."""
    done = subprocess.run(
        (sys.executable, "-c", f"import generate; print(generate.{page}(), end='')"),
        cwd=ROOT / "docs",
        capture_output=True,
        text=True,
        check=True,
    )
    assert TEXTS[f"docs/{page}.md"] == done.stdout


def test_the_site_builds_and_knows_every_page():
    """Strictly: a link or an anchor that leads nowhere, or a page that nobody finds, ends it."""
    done = subprocess.run(
        (sys.executable, "docs/site.py"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {f"{page.removesuffix('.md')}.html" for page in PAGES if page != "README.md"} <= {
        str(found.relative_to(ROOT / "build/site")).replace("/index.html", "/README.html")
        for found in (ROOT / "build/site").rglob("*.html")
    }


def test_every_exit_code_is_explained_in_the_readme():
    shown = CliRunner().invoke(main, ["--help"]).output
    codes = re.findall(r"^ {4}(\d)  ", shown, re.MULTILINE)
    assert codes
    assert re.findall(r"^\| (\d) \|", TEXTS["README.md"], re.MULTILINE) == codes


# --- what no file may say ---

ASKED_NOT_TO = {
    "a path of somebody's machine": r"(?<![\w.])/(?:home/(?!you/)|Users/|root/|work/)\w+",
    "where to install from": r"--(?:extra-)?index-url|--find-links|pypi\.org|\bindex-url\b",
    "a key": r"-----BEGIN|\bAKIA[0-9A-Z]{16}\b|\bghp_\w{30}",
}
ABOUT_THE_RULES = {"tests/docs/test_docs.py", "Makefile"}


@pytest.mark.parametrize("what", ASKED_NOT_TO)
def test_no_file_says(what):
    """A checkout works for anybody, anywhere."""
    found = []
    for name in set(tracked()) - ABOUT_THE_RULES:
        text = (ROOT / name).read_text(errors="replace")
        found += [f"{name}: {m[0]}" for m in re.finditer(ASKED_NOT_TO[what], text)]
    assert found == []
