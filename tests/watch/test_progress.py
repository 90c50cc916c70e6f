"""What a person sees: shares that are known, times left, and a terminal left as it was."""

import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from fcntl import ioctl

import pytest
from rich.console import Console

from crmcom import Run, Settings
from crmcom_pipelines.bars import bars
from crmcom_pipelines.progress import Line, Progress, Watched, is_terminal
from crmcom_sandbox import World, serve

from .conftest import CRMCOM, environ


def a_run():
    return Run(Settings(base_url="http://127.0.0.1:9", api_key="k"))


def test_a_share_is_shown_only_where_the_total_is_known():
    run = a_run()
    watched, result = Watched(run), run.result("contacts")
    (line,) = watched.look(0.0)
    assert (line.state, line.share, line.planned, line.left_s) == ("waiting", None, None, None)
    result.count.asked["list"] += 10
    result.extent.begins(None)
    (line,) = watched.look(1.0)
    assert (line.state, line.share, line.planned) == ("reading", None, None)
    result.extent.begins(400, last=False)
    assert watched.look(2.0)[0].share is None, "other windows wait, of nobody knows how many"
    result.extent.begins(400)
    result.extent.reading = 100
    (line,) = watched.look(11.0)
    assert (line.share, line.done, line.planned) == (0.25, 100, 400)
    assert line.left_s == pytest.approx(30.0)


def test_a_share_never_passes_the_whole_however_often_pages_are_read_again():
    run = a_run()
    extent = run.result("activities").extent
    extent.begins(100)
    extent.reading = 250
    assert Watched(run).look(0.0)[0].share == 1.0


def test_requests_per_second_are_those_of_the_last_seconds():
    run = a_run()
    watched, result = Watched(run), run.result("contacts")
    for second in range(60):
        result.count.asked["list"] += 100 if second < 30 else 20
        (line,) = watched.look(float(second))
    assert line.per_second == pytest.approx(20.0)
    assert line.in_flight == result.requests


def test_a_plain_line_tells_all_that_a_bar_does():
    line = Line("contacts", "reading", 1200, 40, 55.2, 12, 3, 1200, 3400, 0.35, 130.0)
    assert line.text == (
        "contacts reading, 1,200 of 3,400, 1,200 rows, 55 requests/s, 12 in flight, 3 retries, "
        "about 2 min left"
    )


class Noticing(io.StringIO):
    """Says when enough was written."""

    def __init__(self, lines):
        super().__init__()
        self.enough, self._lines = threading.Event(), lines

    def write(self, text):
        written = super().write(text)
        if self.getvalue().count("\n") >= self._lines:
            self.enough.set()
        return written


def test_a_file_gets_a_line_now_and_then_and_nothing_that_moves():
    stream = Noticing(4)
    run = a_run()
    run.result("contacts").count.asked["list"] += 7
    with Progress(stream, every_s=0.01) as progress:
        progress.follow(run)
        progress.step("load")
        assert stream.enough.wait(20)
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert "reading the API" in stream.getvalue()
    assert "contacts reading" in stream.getvalue()
    ended = stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue() == ended, "the thread ended with the display"


def test_quiet_shows_nothing():
    stream = io.StringIO()
    with Progress(stream, quiet=True, every_s=0.001) as progress:
        progress.step("load")
        time.sleep(0.02)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("term", ["dumb", "unknown", None])
def test_a_terminal_that_cannot_move_gets_plain_lines(monkeypatch, term):
    class Tty(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Tty())
    assert not is_terminal(io.StringIO())
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    assert not is_terminal(Tty())


@pytest.mark.parametrize("width", [8, 20, 40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    lines = [
        Line("contacts", "proven", 10**6, 10**4, 0.0, 0, 0, 10**6, None, None, None),
        Line("accounts", "waiting", 0, 0, 0.0, 0, 0, 0, None, None, None),
        Line("activities", "reading", 10**6, 10**5, 1999.0, 64, 10**4, 10**6, 10**7, 0.1, 10**4),
    ]
    live = bars(io.StringIO(), lambda: ("reading the API, 3 s", lines))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    live.console.width = width
    console.print(live.get_renderable())
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue()).splitlines()
    assert len(shown) == 4
    assert all(len(line) <= width for line in shown)


def on_a_terminal(args, cwd, env, *, stop=False):
    """What a program writes on a terminal, and its exit code.

    With `stop`, it gets a SIGINT in the middle.
    """
    master, slave = pty.openpty()
    ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    before, shown = termios.tcgetattr(slave), b""
    deadline, sent = time.monotonic() + 200, not stop
    with subprocess.Popen(
        [CRMCOM, *args], cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        while select.select([master], [], [], 0.2)[0] or process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([master], [], [], 0)[0]:
                shown += os.read(master, 65536)
            if not sent and b"accounts" in shown:
                process.send_signal(signal.SIGINT)
                sent = True
        assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    return shown.decode(errors="replace"), process.returncode


@pytest.mark.parametrize("stopped", [False, True])
def test_a_terminal_shows_bars_and_is_left_as_it_was(stopped, tmp_path):
    """At the end, and after Ctrl-C: the cursor is back, the bars are gone, what is said stands."""
    with serve(World.generate(contacts=100, activities=50), behaviour="live") as server:
        env = environ(
            tmp_path,
            TERM="xterm",
            SOURCES__CRMCOM__API_KEY=server.api_key,
            SOURCES__CRMCOM__MAX_REQUESTS_PER_SECOND="20" if stopped else "100",
        )
        env.pop("COLUMNS")
        args = ("sync", "--base-url", server.base_url, "--no-transform")
        shown, code = on_a_terminal(args, tmp_path, env, stop=stopped)
    assert code == (130 if stopped else 0), shown
    assert "reading the API" in shown
    assert re.search(r"accounts .*requests|accounts .*/s", shown)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    last = shown.rpartition("\x1b[?25h")[2]
    assert "\x1b[2K" in last, "the bars are erased"
    assert ("Stopped." if stopped else "contacts    100 rows") in last
    assert "Traceback" not in shown


def test_a_file_instead_of_a_terminal_gets_no_control_characters(tmp_path):
    """As from cron, also where somebody forces colours."""
    with serve(World.generate(contacts=5, activities=5), behaviour="live") as server:
        env = environ(
            tmp_path, TERM="xterm", FORCE_COLOR="1", SOURCES__CRMCOM__API_KEY=server.api_key
        )
        args = ("sync", "--base-url", server.base_url, "--no-transform")
        found = subprocess.run(
            [CRMCOM, *args], cwd=tmp_path, env=env, capture_output=True, check=True
        )
    assert found.stderr.startswith(b"reading the API\n")
    assert b"\x1b" not in found.stderr
    assert b"\r" not in found.stderr
