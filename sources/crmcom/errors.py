"""Every error that the source raises, grouped by what the caller can do about it.

    CrmcomError
    ├── SettingsError          change a setting; nothing was asked
    ├── Refused                change a credential or a permission; never retried
    │   ├── LoginRefused       the API does not accept who we are (401)
    │   └── Forbidden          it knows us, and does not let us (403)
    ├── Answered               an answer, and no failure: the caller decides what it means
    │   ├── NotFound           there is no such record (404)
    │   └── BadRequest         the server does not take this question (400 and other 4xx)
    ├── Retryable              the client tries again by itself
    │   ├── RateLimited        too fast (429, or a 503 with `Retry-After`)
    │   ├── ServerTrouble      425, 500, 502, 503, 504 and their kin
    │   ├── Misrouted          a 404 that is not the API's own: a gateway's page
    │   ├── Unreachable        no connection, a time-out, a connection lost in the middle
    │   └── BrokenReply        a 2xx whose body is truncated, not JSON, or not an object
    ├── Unavailable            it tried again and gave up: run again later
    │   └── DeadlineExceeded   `run_timeout_s` is over
    └── Unproven               loaded, but completeness could not be shown
        └── FilterIgnored      the endpoint ignores a filter that the listing relies on

Errors carry the endpoint, the status and the API's own message as evidence, and no secret:
a request's headers and a login's body never reach them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was asked and what came back. `endpoint` is the reference's name for the route."""

    endpoint: str
    path: str = ""
    status: int | None = None
    message: str = ""

    def __str__(self) -> str:
        asked = f"{self.endpoint} ({self.path})" if self.path else self.endpoint
        came = " ".join(x for x in (str(self.status or ""), self.message) if x)
        return f"{asked}: {came}" if came else asked


class CrmcomError(Exception):
    """The root. `exit_code` is what the command line ends with when this ends a run."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, evidence: Evidence | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.message} [{self.evidence}]" if self.evidence else self.message


class SettingsError(CrmcomError):
    exit_code = 2


class Refused(CrmcomError):
    exit_code = 3


class LoginRefused(Refused):
    pass


class Forbidden(Refused):
    pass


class Answered(CrmcomError):
    # Where nobody knows what to make of it: the API does not do what we were told it does.
    exit_code = 3


class NotFound(Answered):
    pass


class BadRequest(Answered):
    pass


class Retryable(CrmcomError):
    exit_code = 4


class RateLimited(Retryable):
    """`retry_after_s`: how long the server asks us to wait; None where it does not say."""

    def __init__(
        self, message: str, evidence: Evidence | None = None, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, evidence)
        self.retry_after_s = retry_after_s


class ServerTrouble(Retryable):
    pass


class Misrouted(Retryable):
    pass


class Unreachable(Retryable):
    pass


class BrokenReply(Retryable):
    pass


class Unavailable(CrmcomError):
    """`tries`: how often it was asked; `last`: what the last try ended with."""

    exit_code = 4

    def __init__(
        self,
        message: str,
        evidence: Evidence | None = None,
        *,
        tries: int = 0,
        last: Retryable | None = None,
    ) -> None:
        super().__init__(message, evidence)
        self.tries = tries
        self.last = last


class DeadlineExceeded(Unavailable):
    pass


class Unproven(CrmcomError):
    exit_code = 5


class FilterIgnored(Unproven):
    """`filter`: the parameter that the endpoint ignores, without its operator."""

    def __init__(
        self,
        message: str,
        evidence: Evidence | None = None,
        *,
        filter: str = "",  # noqa: A002 - the reference's word
    ) -> None:
        super().__init__(
            f"{message}; to have this list read whole in each run, add it to "
            "sources.crmcom.full_scan",
            evidence,
        )
        self.filter = filter
