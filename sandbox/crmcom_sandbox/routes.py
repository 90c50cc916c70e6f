"""The API's routes: a table of path, method and handler. Handlers do no I/O: Call in, Reply out."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .behaviour import Place
from .filters import Query
from .records import encode
from .sandbox import Sandbox
from .world import World

BASE_PATH = "/backoffice/v2"


class Call(NamedTuple):
    """One request, read."""

    sandbox: Sandbox
    place: Place
    ids: Mapping[str, str]
    query: Query
    headers: Mapping[bytes, bytes]
    body: bytes
    number: int
    """How many requests this route had before."""

    @property
    def world(self) -> World:
        return self.sandbox.world

    @property
    def id(self) -> str:
        return self.ids["id"]


class Reply(NamedTuple):
    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Call], Reply]


def replied(value: object, status: int = 200) -> Reply:
    return Reply(encode(value), status)
