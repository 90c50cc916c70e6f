"""Handlers of the login routes. Not in the reference; known from a client in daily use."""

from .routes import Call, Reply, replied


def authenticate(call: Call) -> Reply:
    sandbox = call.sandbox
    return replied(sandbox.sessions.log_in(call.headers, call.body, sandbox.behaviour))


def sign_out(call: Call) -> Reply:
    call.sandbox.sessions.sign_out(call.id)
    return Reply(b"", 204)
