"""Refusals and failures in the form that clients of the OpenAI protocol read."""

from typing import Any

from utils.errors import HatcheryError, UsageError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer that is none: HTTP status, a sentence, a code for programs, the field at fault.

    `found` and `remedy` are those of a `HatcheryError`. `retry_after`, in seconds, says when to
    retry; without it clients learn that the same request would fail again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        found: str = "",
        remedy: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.found, self.remedy, self.retry_after = found, remedy, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that clients read."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error: dict[str, Any] = {
            "message": self.message,
            "type": _TYPES.get(self.status, kind),
            "param": self.param,
            "code": self.code,
        }
        if self.found:
            error["found"] = self.found
        if self.remedy:
            error["remedy"] = self.remedy
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        """What the official client looks at to decide whether it tries again."""
        if self.retry_after is not None:
            return {"Retry-After": str(self.retry_after), "x-should-retry": "true"}
        named = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return named | {"x-should-retry": "false"}


def bad_request(
    message: str,
    param: str | None = None,
    *,
    code: str = "invalid_value",
    found: str = "",
    remedy: str = "",
) -> ApiError:
    """A request that cannot be understood or done."""
    return ApiError(400, message, code=code, param=param, found=found, remedy=remedy)


def from_hatchery(error: HatcheryError, *, code: str) -> ApiError:
    """What a request may ask and cannot have: 400 where it is the user's to mend, else 422."""
    status = 400 if isinstance(error, UsageError) else 422
    return ApiError(status, error.problem, code=code, found=error.found, remedy=error.remedy)


def stopping() -> ApiError:
    """The failure of every request that waits when the server ends."""
    return ApiError(503, "The server is stopping.", code="stopping")
