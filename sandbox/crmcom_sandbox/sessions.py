"""Who may ask: keys, users, and the tokens of those who logged in.

`authorization` (bare or `Bearer`) decides where it is sent; a key beside it must be right too.
Without it `api_key` must be the secret key. The public key serves the login alone.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from .behaviour import Behaviour
from .errors import BadRequest, NotFound, Unauthorized
from .records import Json
from .world import World

API_KEY = "2189341e-981e-9ad5-9912-11101670314a"
PUBLIC_KEY = "6f1f3b52-0c1d-4a8e-9a57-3f4f3a1c9b10"
USERNAME = "sandbox@crm.example"
PASSWORD = "sandbox"  # noqa: S105
ORGANISATION_ID = "b3f0d1d2-6a0e-4a3c-8a53-1f0c3f5f7e21"

MAX_FAILED_LOGINS = 5
LOCKOUT_S = 900


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    api_key: str = API_KEY
    """The secret key: enough by itself, and what goes beside a token."""
    public_key: str = PUBLIC_KEY
    """The key of the login."""
    username: str = USERNAME
    password: str = PASSWORD


class TokenExpired(Exception):
    """A token that was good once. The API answers a bare 401."""


class Login(msgspec.Struct):
    username: str
    password: str
    provider: str = "EMAIL"


class Sessions:
    def __init__(self, world: World, credentials: Credentials) -> None:
        self.credentials = credentials
        self.user_id = "47ac694d-6281-b873-bf46-3fd8da334a3a"
        self._world = world
        self._expiry: dict[str, int] = {}
        self._failed = 0
        self._locked_until = 0

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Unauthorized or TokenExpired."""
        key = headers.get(b"api_key")
        authorization = headers.get(b"authorization")
        if key is not None and key.decode("latin-1") != self.credentials.api_key:
            raise Unauthorized("Invalid API key.")
        if authorization is not None:
            self._check_token(authorization.decode("latin-1"))
        elif key is None:
            raise Unauthorized("No credentials.")

    def log_in(self, headers: Mapping[bytes, bytes], body: bytes, behaviour: Behaviour) -> Json:
        """`POST /users/authenticate`. Too many wrong passwords lock the account for a while."""
        key = headers.get(b"api_key", b"").decode("latin-1")
        if key not in (self.credentials.public_key, self.credentials.api_key):
            raise Unauthorized("Invalid API key.")
        try:
            login = msgspec.json.decode(body, type=Login)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from None
        now = self._world.clock.epoch()
        if now < self._locked_until:
            raise Unauthorized("The account is locked.", "lockout_date", str(self._locked_until))
        known = (self.credentials.username, self.credentials.password)
        if (login.username, login.password) != known:
            self._failed += 1
            if self._failed >= MAX_FAILED_LOGINS:
                self._failed, self._locked_until = 0, now + LOCKOUT_S
            raise Unauthorized("Wrong username or password.")
        self._failed = 0
        expires = now + behaviour.token_lifetime_s
        token = self._token(len(self._expiry), expires, behaviour.mode)
        self._expiry[token] = expires
        return {
            "access_token": token,
            "refresh_token": hashlib.sha256(token.encode()).hexdigest(),
            "expiration_date": expires,
            "mode": behaviour.mode,
            "lockout_date": None,
            "password_expired": False,
        }

    def sign_out(self, user_id: str) -> None:
        if user_id != self.user_id:
            raise NotFound("user", user_id)
        self._expiry.clear()

    def expire_tokens(self) -> None:
        """Every token of today is a token of yesterday."""
        self._expiry = dict.fromkeys(self._expiry, 0)

    def _check_token(self, authorization: str) -> None:
        token = authorization.removeprefix("Bearer ").strip()
        expires = self._expiry.get(token)
        if expires is None:
            raise Unauthorized("Invalid token.")
        if expires <= self._world.clock.epoch():
            raise TokenExpired

    def _token(self, number: int, expires: int, mode: str) -> str:
        """A JWT as the API's, signed so that it looks like one."""
        claims = {
            "sub": self.user_id,
            "jti": str(number),
            "exp": expires,
            "organisation_id": ORGANISATION_ID,
            "mode": mode,
        }
        text = f"{_base64({'alg': 'HS256', 'typ': 'JWT'})}.{_base64(claims)}"
        key = self.credentials.api_key.encode()
        signature = hmac.new(key, text.encode(), hashlib.sha256).digest()
        return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _base64(value: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")
