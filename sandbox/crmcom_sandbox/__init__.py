"""A server of the CRM.COM back-office API, for demos and tests.

It behaves as the API reference says or as the live API is known to behave, over a world of
generated data that can be changed, moved in time and made to fail.
"""

from .app import create_app
from .behaviour import BEHAVIOURS, LIVE, REFERENCE, Behaviour, RateLimit
from .clock import DEFAULT_NOW, Clock
from .faults import ALL_KINDS, QUICK_KINDS, Faults
from .sandbox import Sandbox
from .server import Server, ServerProcess, serve, serve_process
from .sessions import API_KEY, PASSWORD, PUBLIC_KEY, USERNAME, Credentials
from .world import World

__all__ = [
    "ALL_KINDS",
    "API_KEY",
    "BEHAVIOURS",
    "DEFAULT_NOW",
    "LIVE",
    "PASSWORD",
    "PUBLIC_KEY",
    "QUICK_KINDS",
    "REFERENCE",
    "USERNAME",
    "Behaviour",
    "Clock",
    "Credentials",
    "Faults",
    "RateLimit",
    "Sandbox",
    "Server",
    "ServerProcess",
    "World",
    "create_app",
    "serve",
    "serve_process",
]
