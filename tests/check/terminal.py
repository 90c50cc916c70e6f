"""A command on a terminal: what a person types, and what that person sees."""

import math
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

CTRL_C = "Ctrl-C"


def talk(*args, cwd, env, answers, timeout_s=60):
    """Runs `crmcom` on a terminal, and types each answer once its question has been shown.

    `answers`: pairs of the end of a question and what is typed. Returns the exit code and all
    that the terminal showed.
    """
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "crmcom"), *args]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    waiting, shown, read_to = list(answers), "", 0
    again_at = math.inf
    ends_at = time.monotonic() + timeout_s
    try:
        while time.monotonic() < ends_at:
            ready, _, _ = select.select([ours], [], [], 0.1)
            if ready:
                try:
                    shown += os.read(ours, 4096).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
            elif process.poll() is not None:
                break
            at = shown.find(waiting[0][0], read_to) if waiting else -1
            if at >= 0:
                question, answer = waiting.pop(0)
                read_to = at + len(question)
                if "hidden" in answer:
                    _until_hidden(ours, ends_at)
                if answer == CTRL_C:
                    process.send_signal(signal.SIGINT)
                    again_at = time.monotonic() + 2
                else:
                    os.write(ours, f"{answer}\n".encode())
            if time.monotonic() > again_at:
                # Python shows a question and only then begins to read: what comes between the two
                # is noticed after the reading. A person would press it once more.
                process.send_signal(signal.SIGINT)
                again_at = math.inf
        return process.wait(timeout=max(0.1, ends_at - time.monotonic())), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _until_hidden(terminal, ends_at):
    """A secret is typed when it is no longer shown: the question comes a moment before that."""
    while termios.tcgetattr(terminal)[3] & termios.ECHO and time.monotonic() < ends_at:
        time.sleep(0.005)
