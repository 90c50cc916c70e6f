"""`crmcom init` writes what dlt reads back, loses nothing, and lets nobody else read a secret."""

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from dlt.common.configuration.providers import ConfigTomlProvider, SecretsTomlProvider
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmcom.errors import SettingsError
from crmcom_pipelines.cli import main
from crmcom_pipelines.cli.options import configured
from crmcom_pipelines.settings_files import CONFIG, SECRETS, edit, keep_from_git

from .terminal import CTRL_C, talk

URL = "https://app.crm.com/backoffice/v2"
SOURCE = ("sources", "crmcom")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    for name in [n for n in os.environ if "__" in n]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def init(*options, **environ):
    """Called where nobody can be asked."""
    return CliRunner(env=environ).invoke(main, ["init", *options])


def read_by_dlt(name, provider=SecretsTomlProvider, sections=SOURCE):
    return provider(".dlt").get_value(name, str, None, *sections)[0]


def test_a_new_folder_gets_both_files_and_git_ignores_the_secrets():
    subprocess.run(("git", "init", "-q", "."), check=True)
    done = init("--base-url", f"{URL}/", "--api-key", "the-key")
    assert done.exit_code == 0, done.output
    assert read_by_dlt("api_key") == "the-key"
    assert read_by_dlt("base_url", ConfigTomlProvider) == URL
    assert stat.S_IMODE(SECRETS.stat().st_mode) == 0o600
    subprocess.run(("git", "check-ignore", "-q", str(SECRETS)), check=True)
    assert "the-key" not in CONFIG.read_text() + done.output
    assert sorted(Path(".dlt").iterdir()) == [CONFIG, SECRETS]


def test_git_is_told_once_and_what_it_cannot_help_is_said():
    Path(".gitignore").write_bytes(b"*.log")
    subprocess.run(("git", "init", "-q", "."), check=True)
    assert keep_from_git(Path()) == keep_from_git(Path()) == []
    assert Path(".gitignore").read_text() == "*.log\n.dlt/secrets.toml\n.dlt/*.part\n"
    Path(".gitignore").write_text(".dlt/secrets.toml\n.dlt/*.part\n!.dlt/secrets.toml\n")
    assert "overrules" in keep_from_git(Path())[0]
    Path(".dlt").mkdir()
    SECRETS.write_text("")
    subprocess.run(("git", "add", "-f", str(SECRETS)), check=True)
    assert "git rm --cached" in keep_from_git(Path())[0]


def test_no_other_user_can_read_a_secret_at_any_moment(tmp_path):
    """Whatever the umask: each file that ever held it was made with 0600."""
    code = """
import os, sys
opened, really = [], os.open
def noted(path, flags, mode=0o777, **more):
    made = really(path, flags, mode, **more)
    if flags & os.O_CREAT and '.dlt' in os.fspath(path):
        opened.append((os.path.basename(path), oct(os.fstat(made).st_mode & 0o777)))
    return made
os.open = noted
from crmcom_pipelines.settings_files import SECRETS, edit
edit(SECRETS, {"sources.crmcom.api_key": "x"}, is_secret=True).write()
print([m for n, m in opened if n.startswith("secrets")], oct(SECRETS.stat().st_mode & 0o777))
"""
    script = f"import os; os.umask(0)\n{code}"
    SECRETS.parent.mkdir()
    SECRETS.write_text("")
    SECRETS.chmod(0o666)
    told = subprocess.check_output((sys.executable, "-c", script), cwd=tmp_path, text=True)
    assert told == "['0o600'] 0o600\n"


OLD = """# mine
[runtime]
log_level = "INFO" # keep

[sources.other]
page_size = 1

[sources.crmcom]
# the reason
page_size = 50 # why
base_url = "https://old.example/v2"

[zeta]
a = [1,
     2]
"""


def test_what_stands_there_is_shown_and_replaced_only_when_that_is_said():
    CONFIG.parent.mkdir()
    CONFIG.write_text(OLD)
    done = init("--base-url", URL, "--api-key", "k")
    assert done.exit_code == 2
    assert "'https://old.example/v2' becomes" in done.output
    assert "--force" in done.output
    assert CONFIG.read_text() == OLD
    assert not SECRETS.exists()
    assert init("--base-url", URL, "--api-key", "k", "--force").exit_code == 0
    text = CONFIG.read_text()
    assert text.startswith(OLD.replace("https://old.example/v2", URL))
    again = init("--base-url", URL, "--api-key", "k")
    assert again.exit_code == 0
    assert CONFIG.read_text() == text


def test_another_way_to_log_in_takes_the_place_of_the_last():
    """Settings of both together would be refused. What is secret is not shown."""
    assert init("--base-url", URL, "--api-key", "old-Key").exit_code == 0
    with CONFIG.open("a") as file:
        file.write('[transforms.crmcom.vars]\ncrmcom_report_timezone = "UTC"\n')
    login = ("--username", "me", "--password", "p w", "--api-key", "k2", "--secret-key", "k3")
    assert init(*login).exit_code == 2
    assert init(*login, "--force").exit_code == 0
    done = init("--access-token", "tok", "--yes")
    assert done.exit_code == 0
    assert tomllib.loads(SECRETS.read_text())["sources"]["crmcom"] == {"access_token": "tok"}
    shown = init("--api-key", "new-Key")
    assert "- sources.crmcom.access_token = ***" in shown.output
    assert "tok" not in shown.output.replace("access_token", "")
    assert "crmcom_report_timezone" in CONFIG.read_text()


def test_a_secret_in_the_wrong_file_is_moved():
    CONFIG.parent.mkdir()
    CONFIG.write_text(f'[sources.crmcom]\nbase_url = "{URL}"\napi_key = "in the open"\n')
    done = init("--force")
    assert done.exit_code == 0, done.output
    assert read_by_dlt("api_key") == "in the open"
    assert "in the open" not in CONFIG.read_text() + done.output


def test_a_destination_becomes_the_default_of_every_command():
    """Its credentials stand where dlt looks for them."""
    address = "postgresql://me:secret@db.example/finance"
    done = init("--base-url", URL, "--api-key", "k", "--destination", "postgres",
                "--destination-credentials", address, "--dataset", "crm")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert read_by_dlt("credentials", sections=("destination", "postgres")) == address
    assert configured() == {"destination": "postgres", "dataset": "crm"}
    assert "postgres]" in CliRunner().invoke(main, ["sync", "--help"]).output
    CONFIG.write_text("no [toml")
    assert configured() == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "--base-url"),
        (("--base-url", URL), "--api-key"),
        (("--base-url", "http://example.com", "--api-key", "k"), "https://"),
        (("--base-url", URL, "--username", "u"), "secret_key"),
        (("--base-url", URL, "--access-token", "t", "--username", "u"), "does not go with"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(options, told):
    done = init(*options)
    assert done.exit_code == 2
    assert told in done.output
    assert list(Path().iterdir()) == []


def test_the_environment_tells_too_and_is_named_where_it_overrules():
    """A flag can be seen by whoever lists processes."""
    done = init(SOURCES__CRMCOM__BASE_URL=URL, SOURCES__CRMCOM__API_KEY="from the environment")
    assert done.exit_code == 0, done.output
    assert read_by_dlt("api_key") == "from the environment"
    other = init("--api-key", "b", "--yes", SOURCES__CRMCOM__API_KEY="c")
    assert "SOURCES__CRMCOM__API_KEY in the environment overrules" in other.output


@pytest.mark.parametrize("text", ["not [toml", b"\xff\xfe", "sources = 3", "sources.crmcom = 1"])
def test_a_file_that_cannot_be_changed_is_left_as_it_is(text):
    CONFIG.parent.mkdir()
    CONFIG.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = CONFIG.read_bytes()
    done = init("--base-url", URL, "--api-key", "k", "--force")
    assert done.exit_code == 2
    assert str(CONFIG) in done.output
    assert CONFIG.read_bytes() == before
    assert not SECRETS.exists()


def test_on_a_terminal_it_asks_and_shows_no_secret(tmp_path):
    """A wrong address is asked for again; what is there is kept unless somebody agrees."""
    env = {k: v for k, v in os.environ.items() if "__" not in k} | {"HOME": str(tmp_path)}
    first = [
        ("/v2]: ", "ftp://nowhere"),
        ("/v2]: ", URL),
        ("[key]: ", "login"),
        ("Username: ", "me"),
        ("Password: ", "hidden p"),
        ("Api key: ", "hidden-a"),
        ("Secret key: ", "hidden-s"),
        ("[duckdb]: ", ""),
        (".duckdb]: ", "finance.duckdb"),
        ("[Y/n]: ", "n"),
    ]
    code, shown = talk("init", cwd=tmp_path, env=env, answers=first)
    assert code == 0, shown
    assert "hidden" not in shown
    assert read_by_dlt("password") == "hidden p"
    assert read_by_dlt("username") == "me"
    assert configured()["database"] == "finance.duckdb"
    before = CONFIG.read_text()
    again = [
        (f"{URL}]: ", "https://other.example/v2"),
        ("[keep]: ", ""),
        ("[duckdb]: ", ""),
        ("[finance.duckdb]: ", ""),
        ("[y/N]: ", "n"),
    ]
    code, shown = talk("init", cwd=tmp_path, env=env, answers=again)
    assert code == 130
    assert "Stopped. Nothing was changed." in shown
    assert CONFIG.read_text() == before


def test_ctrl_c_says_whether_anything_was_written(tmp_path):
    env = {k: v for k, v in os.environ.items() if "__" not in k} | {"HOME": str(tmp_path)}
    questions = ("/v2]: ", "[key]: ", "Api key: ", "[duckdb]: ", ".duckdb]: ")
    answers = [*zip(questions, (URL, "", "hidden-k", "", ""), strict=True)]
    code, shown = talk(
        "init", cwd=tmp_path, env=env, answers=[*answers[:-1], (".duckdb]: ", CTRL_C)]
    )
    assert (code, list(tmp_path.iterdir())) == (130, [])
    assert shown.endswith("Stopped. Nothing was changed.\r\n")
    code, shown = talk("init", cwd=tmp_path, env=env, answers=[*answers, ("[Y/n]: ", CTRL_C)])
    assert (code, read_by_dlt("api_key")) == (130, "hidden-k")
    assert "Stopped. The settings are written. Next: crmcom check" in shown


ODD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(secret=ODD, other=ODD)
def test_whatever_a_secret_is_dlt_reads_it_back(secret, other):
    """Quotes, line breaks, control characters; written anew, and over another one."""
    SECRETS.unlink(missing_ok=True)
    for value in (secret, other, secret):
        edit(SECRETS, {"sources.crmcom.password": value}, is_secret=True).write()
        assert read_by_dlt("password") == value


KEYS = st.text("ab-_.\"' é#", min_size=1, max_size=4)
LEAVES = st.one_of(st.integers(-9, 9), st.booleans(), ODD, st.lists(st.integers(0, 9), max_size=3))
TABLES = st.recursive(
    st.dictionaries(KEYS, LEAVES, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(LEAVES, inner), max_size=3),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(there=TABLES, inside=st.dictionaries(KEYS, LEAVES, max_size=3), value=ODD)
def test_nothing_else_in_a_file_is_touched(there, inside, value):
    """Or it is said that it cannot be helped, and the file stays as it was."""
    import tomlkit  # noqa: PLC0415 - the file's writer, not what is tested

    before = {**there, "sources": {"crmcom": inside}}
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_bytes(tomlkit.dumps(before).encode())
    edit(CONFIG, {"sources.crmcom.base_url": value, "pipelines.crmcom.dataset": value}).write()
    after = tomllib.loads(CONFIG.read_bytes().decode())
    inner = after["sources"]["crmcom"]
    assert inner.pop("base_url") == value == after["pipelines"]["crmcom"]["dataset"]
    del after["pipelines"]
    assert inner == {k: v for k, v in inside.items() if k != "base_url"}
    assert {**after, "sources": None} == {**there, "sources": None}


def test_a_character_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="by hand"):
        edit(SECRETS, {"sources.crmcom.password": "\udc80"}, is_secret=True)
