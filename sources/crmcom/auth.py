"""Who we are to the API: headers, and what a login's reply means. No I/O."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from crmcom.endpoints import Endpoint
from crmcom.errors import Evidence, LoginRefused
from crmcom.masking import Secret
from crmcom.protocol import Request
from crmcom.records import Record
from crmcom.settings import ApiKey, Credentials, Login, Token, setting

if TYPE_CHECKING:
    from collections.abc import Mapping

_SESSION = Record(table="", parent_key="", fields=())

# Neither is in the reference we hold; a client in daily use shows both.
LOGIN = Request(
    Endpoint("POST /users/authenticate", "/users/authenticate", _SESSION, "single"),
)
_SIGN_OUT = Endpoint("POST /users/{id}/sign_out", "/users/{id}/sign_out", _SESSION, "single")


@dataclass(frozen=True, slots=True)
class Session:
    """What a login gave. `renew_at` is on the server's clock; None where nothing tells."""

    token: Secret
    user_id: str | None = None
    renew_at: datetime | None = None
    password_expired: bool = False

    def is_over(self, server_now: datetime) -> bool:
        return self.renew_at is not None and server_now >= self.renew_at

    @property
    def sign_out(self) -> Request | None:
        return Request(_SIGN_OUT, self.user_id) if self.user_id else None


def headers(
    credentials: Credentials, session: Session | None, *, bearer: bool = False
) -> dict[str, str]:
    """What a request carries. The reference shows a token bare and behind `Bearer`; the client
    in daily use sends it bare, beside the secret key."""
    scheme = "Bearer " if bearer else ""
    match credentials:
        case ApiKey(key):
            return {"api_key": key.reveal()}
        case Token(token, None):
            return {"authorization": scheme + token.reveal()}
        case Token(token, Secret() as key):
            return {"authorization": scheme + token.reveal(), "api_key": key.reveal()}
        case Login(secret_key=key) if session:
            return {"authorization": scheme + session.token.reveal(), "api_key": key.reveal()}
    raise AssertionError("a login's requests wait for its session")


def login(who: Login) -> tuple[dict[str, str], dict[str, str]]:
    """The headers and the JSON body that ask for a session."""
    return {"api_key": who.api_key.reveal()}, {
        "provider": "EMAIL",
        "username": who.username,
        "password": who.password.reveal(),
    }


class _LoginReply(msgspec.Struct):
    # Any field may be null, or be missing from a refusal.
    access_token: Any = None
    expiration_date: Any = None
    lockout_date: Any = None
    password_expired: Any = None


def read_login(body: bytes, server_now: datetime) -> Session:
    """Raises `LoginRefused` where there is no token in it."""
    reply = _read(body)
    if not isinstance(reply.access_token, str) or not reply.access_token:
        raise login_refused(body, Evidence(LOGIN.endpoint.name, status=200))
    claims = _claims(reply.access_token)
    ends = [at for at in (_epoch(reply.expiration_date), _epoch(claims.get("exp"))) if at]
    user_id = claims.get("sub")
    return Session(
        Secret(reply.access_token),
        user_id if isinstance(user_id, str) and user_id else None,
        _renew_at(min(ends), server_now) if ends else None,
        password_expired=reply.password_expired is True,
    )


def login_refused(body: bytes, evidence: Evidence | None) -> LoginRefused:
    """Why a login was refused, in the user's terms. It is not to be repeated: the API locks
    an account after too many."""
    reply = _read(body)
    locked_until = _epoch(reply.lockout_date)
    if reply.lockout_date:
        until = f" until {locked_until:%Y-%m-%d %H:%M} UTC" if locked_until else ""
        return LoginRefused(
            f"the user's account is locked{until} after too many failed logins: "
            f"wait, then check {setting('password')}",
            evidence,
        )
    if reply.password_expired is True:
        return LoginRefused(
            f"the user's password has expired: set a new one in CRM.COM, "
            f"then {setting('password')}",
            evidence,
        )
    if evidence and evidence.status == 404:
        return LoginRefused(
            f"there is no login at this address: check {setting('base_url')}", evidence
        )
    names = ", ".join(f"sources.crmcom.{name}" for name in ("username", "password", "api_key"))
    return LoginRefused(f"the API does not accept the login: check {names}", evidence)


def refused(credentials: Credentials, evidence: Evidence | None) -> LoginRefused:
    """Why a request was refused, naming the setting to change."""
    match credentials:
        case ApiKey():
            what = f"the API does not accept {setting('api_key')}: set a valid secret key"
        case Token():
            what = (
                f"the API does not accept {setting('access_token')}: it may have expired; set a "
                "new one, or a login (username, password, api_key, secret_key), which is renewed"
            )
        case Login():
            what = (
                "the API gave a token and does not accept it: "
                f"check {setting('secret_key')}, which goes with it"
            )
    return LoginRefused(what, evidence)


def _read(body: bytes) -> _LoginReply:
    try:
        return msgspec.json.decode(body, type=_LoginReply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _LoginReply()


def _claims(token: str) -> Mapping[str, Any]:
    """A JWT's claims, unverified: they only tell when to ask for the next one."""
    try:
        part = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _epoch(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _renew_at(ends: datetime, server_now: datetime) -> datetime | None:
    """A minute before its end; sooner for a short life. None for an end that is no end."""
    life = ends - server_now
    if life <= timedelta(0):
        # Dates in another unit, or a clock that is not the server's: a 401 will tell.
        return None
    return ends - min(timedelta(minutes=1), life / 10)
