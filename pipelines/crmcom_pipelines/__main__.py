"""The program `crmcom`, which a Ctrl-C ends quietly even before it has begun."""

import signal


def main() -> None:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # there is nothing to unwind, and nothing to tell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from crmcom_pipelines import cli  # noqa: PLC0415

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    cli.main()


if __name__ == "__main__":
    main()
