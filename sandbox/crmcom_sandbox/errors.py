"""What the API refuses, in the shape of its documented error reply.

ApiError                 any 4xx with its body; raised by handlers, rendered by the application
├── BadRequest           400
├── Unauthorized         401
├── Forbidden            403
└── NotFound             404, `parameters` = [kind, id] as in the reference's example
"""

import msgspec


class ErrorBody(msgspec.Struct, frozen=True):
    status: int
    message: str | None = None
    error: str | None = None
    parameters: list[str] | None = None


class ApiError(Exception):
    status = 500
    error = "CRM.EXCEPTIONS.INTERNALEXCEPTION"

    def __init__(self, message: str, *parameters: str) -> None:
        super().__init__(message)
        self.body = ErrorBody(self.status, message, self.error, list(parameters))


class BadRequest(ApiError):
    status = 400
    error = "CRM.EXCEPTIONS.INVALIDPARAMETEREXCEPTION"


class Unauthorized(ApiError):
    status = 401
    error = "CRM.EXCEPTIONS.UNAUTHORIZEDEXCEPTION"


class Forbidden(ApiError):
    status = 403
    error = "CRM.EXCEPTIONS.FORBIDDENEXCEPTION"


class NotFound(ApiError):
    status = 404
    error = "CRM.EXCEPTIONS.NOTFOUNDEXCEPTION"

    def __init__(self, kind: str, record_id: str) -> None:
        super().__init__("Record not found.", kind, record_id)
