"""The source's options: typed, with units, checked once, frozen.

A wrong one raises `SettingsError`, which names the setting as the user writes it, says what is
wrong and what to do, and never repeats the value of a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from crmcom.errors import SettingsError
from crmcom.masking import Scrubber, Secret
from crmcom.protocol import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOURCES = ("contacts", "accounts", "activities")
CREDENTIALS = ("api_key", "access_token", "username", "password", "secret_key")
"""The settings that say who we are."""
MIN_KEY = 16
"""Characters of `privacy_key`; a short one can be tried out."""

EXAMPLE_URL = "https://app.crm.com/backoffice/v2"

ActivityDetails = Literal["changed", "all", "off"]
Privacy = Literal["hash", "drop"]
TransportKind = Literal["asyncio", "aiohttp", "httpx"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A secret key alone. Reference: API key authorization header."""

    api_key: Secret


@dataclass(frozen=True, slots=True)
class Token:
    """A token that somebody else obtained; it cannot be renewed from here."""

    access_token: Secret
    api_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A user's login. `api_key` goes with the login, `secret_key` with what follows it."""

    username: str
    password: Secret
    api_key: Secret
    secret_key: Secret


Credentials = ApiKey | Token | Login


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the source needs to know. Durations are in seconds (`_s`), dates are UTC.

    Credentials are one of: `api_key`; `access_token`, with or without `api_key`; or
    `username`, `password`, `api_key` and `secret_key` together.
    """

    base_url: str = ""
    """Without a slash at its end. `http://` is accepted for this machine alone."""

    api_key: str | Secret | None = None
    access_token: str | Secret | None = None
    username: str | None = None
    password: str | Secret | None = None
    secret_key: str | Secret | None = None

    page_size: int = MAX_PAGE_SIZE
    """Rows asked for with one request; the API serves at most 100."""
    max_concurrency: int = 64
    """Requests in flight at once, at most; how many there are follows from how it goes."""
    max_requests_per_second: float | None = None
    """A ceiling; None leaves the pace to what the server bears."""
    transport: TransportKind = "asyncio"
    """What carries the requests: the fastest here (docs/decisions/0003-transport.md)."""
    request_timeout_s: float = 60
    """For one try, from its first byte to its last. The API's searches take up to 16 s."""
    run_timeout_s: float | None = None
    """For the whole run; None lets it take as long as it needs."""

    start_date: datetime | date | str | None = None
    """Nothing created before it is asked for; None asks for everything."""
    lag_s: int = 120
    """How far behind the server's now a window may end: late commits are younger than that."""
    lookback_s: int = 86_400
    """How far a window reaches back over the one before it."""
    reconcile_every_days: float = 7
    """Days between two full listings, which find what is gone; 0 makes every run one."""
    account_refresh: Literal["all"] | int | str = "all"
    """`all` reads every known account in each run; a number that many: see `refresh.choose`."""
    activity_details: ActivityDetails = "changed"
    full_scan: Iterable[str] = ()
    """Resources whose filters are known not to work on this tenant: listed whole."""
    privacy: Mapping[str, Privacy] = field(default_factory=dict)
    """Column -> `hash` or `drop`; a column is `email`, `contacts.email` or `phone.number`."""
    privacy_key: str | Secret | None = None
    """What hashes are made with; needed where a column is hashed."""

    SECRETS: ClassVar[tuple[str, ...]] = (
        "api_key",
        "access_token",
        "password",
        "secret_key",
        "privacy_key",
    )

    def __post_init__(self) -> None:
        self._set("base_url", _base_url(self.base_url))
        for name in ("username", *self.SECRETS):
            self._set(name, _credential(name, getattr(self, name)))
        _ = self.credentials
        for name, low, high in _INTEGERS:
            self._set(name, _integer(name, getattr(self, name), low, high))
        for name, optional, zero in _NUMBERS:
            self._set(name, _number(name, getattr(self, name), optional=optional, zero=zero))
        self._set("start_date", _start_date(self.start_date))
        self._set("account_refresh", _account_refresh(self.account_refresh))
        _one_of("transport", self.transport, ("asyncio", "aiohttp", "httpx"))
        _one_of("activity_details", self.activity_details, ("changed", "all", "off"))
        self._set("full_scan", _full_scan(self.full_scan))
        self._set("privacy", _privacy(self.privacy))
        _check_privacy_key(self.privacy, self.hash_key)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def credentials(self) -> Credentials:
        """Who we are, as one of the three ways that the API knows."""
        api_key, token = _secret(self.api_key), _secret(self.access_token)
        password, secret_key = _secret(self.password), _secret(self.secret_key)
        if token:
            for name in ("username", "password", "secret_key"):
                if getattr(self, name):
                    raise _wrong(
                        name,
                        "does not go with access_token",
                        "give either a token (its key, if it needs one, is api_key) or a login",
                    )
            return Token(token, api_key)
        if self.username or password or secret_key:
            if self.username and password and api_key and secret_key:
                return Login(self.username, password, api_key, secret_key)
            needed = ("username", "password", "api_key", "secret_key")
            missing = " and ".join(name for name in needed if not getattr(self, name))
            raise _wrong(
                missing,
                "is missing" if " and " not in missing else "are missing",
                f"a login needs {', '.join(needed)}; a secret key used alone belongs in api_key",
            )
        if api_key:
            return ApiKey(api_key)
        raise _wrong("api_key", "is missing", "set it, or access_token, or a login")

    @property
    def hash_key(self) -> Secret | None:
        """`privacy_key` as parsed."""
        return _secret(self.privacy_key)

    @property
    def start(self) -> datetime | None:
        """`start_date` as parsed: aware, UTC."""
        return self.start_date if isinstance(self.start_date, datetime) else None

    @property
    def account_budget(self) -> int | None:
        """`account_refresh` as parsed: how many accounts to read, None for all."""
        return self.account_refresh if isinstance(self.account_refresh, int) else None

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret here, to be kept out of text that leaves this process."""
        found = (_secret(getattr(self, name)) for name in self.SECRETS)
        return tuple(secret for secret in found if secret)

    def scrub(self, text: str) -> str:
        """The text with every secret masked, in whichever form it is quoted."""
        return Scrubber(*self.secrets())(text)


_INTEGERS = (
    # setting, smallest, largest
    ("page_size", 1, MAX_PAGE_SIZE),
    ("max_concurrency", 1, 512),
    ("lag_s", 0, None),
    ("lookback_s", 0, None),
)
_NUMBERS = (
    # setting, may be None, may be 0
    ("max_requests_per_second", True, False),
    ("request_timeout_s", False, False),
    ("run_timeout_s", True, False),
    ("reconcile_every_days", False, True),
)


def setting(name: str) -> str:
    """A setting as the user writes it, in a file or in the environment."""
    return f"sources.crmcom.{name} (SOURCES__CRMCOM__{name.upper()})"


def _wrong(name: str, what: str, remedy: str) -> SettingsError:
    return SettingsError(f"{' and '.join(map(setting, name.split(' and ')))} {what}: {remedy}")


def _base_url(value: Any) -> str:
    remedy = f"write it like {EXAMPLE_URL}"
    if not isinstance(value, str) or not value.strip():
        raise _wrong("base_url", "is missing", remedy)
    try:
        url = urlsplit(value.strip())
        host, _ = url.hostname, url.port
    except ValueError:
        raise _wrong("base_url", "is not a URL", remedy) from None
    # What follows never repeats the value: a URL with a user in it holds a password.
    if url.scheme not in ("https", "http") or not host:
        raise _wrong("base_url", "is not an https:// URL", remedy)
    if "@" in url.netloc:
        raise _wrong("base_url", "holds a user or a password", "put credentials in their settings")
    if "?" in value or "#" in value:
        raise _wrong("base_url", "holds a query or a fragment", remedy)
    if any(c.isspace() or not c.isprintable() for c in value.strip()):
        raise _wrong("base_url", "holds a blank or a control character", remedy)
    if url.scheme == "http" and not is_loopback(host):
        raise _wrong(
            "base_url",
            "would send the credentials unencrypted",
            "use https://; http:// is only for this machine (127.0.0.1, ::1, localhost)",
        )
    # A dataset knows its tenant by this: one address has one spelling.
    place = url.netloc.lower().removesuffix({"https": ":443", "http": ":80"}[url.scheme])
    return f"{url.scheme}://{place}{url.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _credential(name: str, value: Any) -> Secret | str | None:
    """None where it is not set; an empty environment variable is not set."""
    if isinstance(value, Secret):
        return value
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _wrong(name, f"is a {type(value).__name__}", "write it as text, in quotes")
    if name == "password":
        return Secret(value)
    value = value.strip()  # files that hold one secret end in a line break
    if name == "access_token":
        value = value.removeprefix("Bearer ").lstrip()  # the header's word: the client puts it
    if name == "username":
        return value or None
    if not (value.isascii() and value.isprintable()):
        raise _wrong(name, "holds a character that no header can carry", "copy it again")
    return Secret(value) if value else None


def _secret(value: str | Secret | None) -> Secret | None:
    return value if isinstance(value, Secret) else None


def _integer(name: str, value: Any, low: int, high: int | None) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    allowed = f"{low} to {high}" if high is not None else f"{low} or more"
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, f"is {value!r}", f"write a whole number, {allowed}")
    if value < low or (high is not None and value > high):
        raise _wrong(name, f"is {value}", f"write {allowed}")
    return int(value)


def _number(name: str, value: Any, *, optional: bool, zero: bool) -> float | None:
    if value is None and optional:
        return None
    allowed = "0 or a positive number" if zero else "a positive number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, f"is {value!r}", f"write {allowed}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise _wrong(name, f"is {value}", f"write {allowed}")
    return float(value)


def _start_date(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    remedy = "write a date like 2024-01-31"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise _wrong("start_date", f"is {value!r}", remedy) from None
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise _wrong("start_date", f"is {value!r}", remedy)


def _account_refresh(value: Any) -> Literal["all"] | int:
    # The environment knows only text.
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if value == "all":
        return "all"
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong("account_refresh", f"is {value!r}", "write all, or a number of requests")
    return int(value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _wrong(name, f"is {value!r}", f"write one of {', '.join(allowed)}")


def _full_scan(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        raise _wrong("full_scan", f"is {value!r}", f"write a list of {', '.join(RESOURCES)}")
    for name in value:
        _one_of("full_scan", name, RESOURCES)
    return tuple(name for name in RESOURCES if name in value)


def _privacy(value: Any) -> dict[str, Privacy]:
    try:
        columns = dict(value)
    except (TypeError, ValueError):
        raise _wrong("privacy", f"is {value!r}", 'write it like {email = "hash"}') from None
    found: dict[str, Privacy] = {}
    for column, how in columns.items():
        if not isinstance(column, str) or not column.strip():
            raise _wrong("privacy", f"names {column!r}", "name columns")
        if isinstance(how, Mapping):  # TOML reads `contacts.email = "hash"` as a table
            found |= {f"{column}.{below}": h for below, h in _privacy(how).items()}
            continue
        _one_of(f"privacy.{column}", how, ("hash", "drop"))
        found[column.strip()] = how
    return found


def _check_privacy_key(columns: Mapping[str, Privacy], key: Secret | None) -> None:
    remedy = (
        "put a long random text there, such as `openssl rand -base64 32` prints, and keep it: "
        "without it equal values no longer get equal hashes"
    )
    if key is None and "hash" in columns.values():
        raise _wrong("privacy_key", "is missing, and columns are to be hashed", remedy)
    if key is not None and len(key.reveal()) < MIN_KEY:
        raise _wrong("privacy_key", f"is shorter than {MIN_KEY} characters", remedy)


NAMES = tuple(f.name for f in fields(Settings))
"""Every setting, as written under `[sources.crmcom]`."""
