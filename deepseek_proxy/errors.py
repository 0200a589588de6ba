"""Every failure this gateway reports, as one exception family.

An error says whose *fault* it was, which HTTP status a front answers with, a stable *code*, and
whether the same request may succeed later. It knows nothing of any dialect: each
`translate/<dialect>/errors.py` gives it the shape that dialect's clients expect.

Source of the upstream leaves: DeepSeek's error table ("Error Codes", docs of Nov 2026).
"""

from __future__ import annotations

import re
from enum import StrEnum

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Fault(StrEnum):
    """Who has to act for the request to succeed."""

    CLIENT = "client"
    ACCOUNT = "account"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class ProxyError(Exception):
    """A failure with everything a front needs to report it.

    `message` is written for the person who reads it and says what to do. `param` is the path of the
    offending request field (`input[3].arguments`). `retry_after` is in seconds. `code` overrides the
    class's default where one HTTP status has several well-known codes.
    """

    fault: Fault = Fault.GATEWAY
    status: int = 500
    code: str | None = "server_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code

    @classmethod
    def kind(cls) -> str:
        """The name of the class as logs and metrics write it: `upstream_unreachable`."""
        return _CAPITAL.sub("_", cls.__name__).lower()


# -- the client's ---------------------------------------------------------------------------------


class InvalidRequest(ProxyError):
    """The request does not say something we (or DeepSeek) can act on."""

    fault = Fault.CLIENT
    status = 400
    code: str | None = None


class ContextOverflow(InvalidRequest):
    """The conversation is longer than the model's context window."""

    code = "context_length_exceeded"


class ContentRejected(InvalidRequest):
    """DeepSeek's moderation refused the prompt ("Content Exists Risk"), or cut off the answer to it."""

    code = "invalid_prompt"


class SearchLimitReached(InvalidRequest):
    """The model went on searching the web after it was told that it may not. It would do so again."""

    code = "invalid_prompt"  # the one code at which Codex stops, and shows the message


class Unauthenticated(ProxyError):
    """No usable key came with the request, or the key is wrong."""

    fault = Fault.CLIENT
    status = 401
    code = "invalid_api_key"


class PermissionDenied(ProxyError):
    fault = Fault.CLIENT
    status = 403
    code = "permission_denied"


class ModelNotFound(ProxyError):
    fault = Fault.CLIENT
    status = 404
    code = "model_not_found"


class NotFound(ProxyError):
    fault = Fault.CLIENT
    status = 404
    code = "not_found"


class MethodNotAllowed(ProxyError):
    fault = Fault.CLIENT
    status = 405
    code = "method_not_allowed"


class RequestTimeout(ProxyError):
    """The client did not send the rest of its request."""

    fault = Fault.CLIENT
    status = 408
    code = "request_timeout"


class BodyCutOff(InvalidRequest):
    """The request's body ended, or broke, in the middle."""


class BodyTooLarge(ProxyError):
    fault = Fault.CLIENT
    status = 413
    code = "request_too_large"


class UnsupportedEncoding(ProxyError):
    fault = Fault.CLIENT
    status = 415
    code = "unsupported_content_encoding"


class UpgradeRequired(ProxyError):
    """A WebSocket was asked for where none is served; the client goes on over plain HTTP."""

    fault = Fault.CLIENT
    status = 426
    code = "websocket_unavailable"


# -- the account's --------------------------------------------------------------------------------


class QuotaExhausted(ProxyError):
    """DeepSeek's 402: the account has no balance. Trying again cannot help."""

    fault = Fault.ACCOUNT
    status = 402
    code = "insufficient_quota"


class RateLimited(ProxyError):
    """DeepSeek's 429: too many requests at once for this account."""

    fault = Fault.ACCOUNT
    status = 429
    code = "rate_limit_exceeded"
    retryable = True


# -- limits of a client's key ---------------------------------------------------------------------


class LimitReached(RateLimited):
    """A client asks faster, or for more at once, than its key allows."""

    fault = Fault.CLIENT


class BudgetSpent(QuotaExhausted):
    """A client has used up what its key allows for a day."""

    fault = Fault.CLIENT
    status = 429


class AccountRefused(ProxyError):
    """One of the gateway's accounts was refused. Another one may do; the client can do nothing about it."""

    fault = Fault.ACCOUNT
    status = 503
    retryable = True


class NoAccount(ProxyError):
    """None of the gateway's accounts can be used now."""

    fault = Fault.ACCOUNT
    status = 503
    retryable = True


class Saturated(ProxyError):
    """All of the gateway's accounts are busy, and too many requests wait already."""

    fault = Fault.ACCOUNT
    status = 429
    code = "rate_limit_exceeded"
    retryable = True


# -- the upstream's -------------------------------------------------------------------------------


class UpstreamError(ProxyError):
    """DeepSeek failed, or answered with something that is not an answer."""

    fault = Fault.UPSTREAM
    status = 502
    retryable = True


class UpstreamOverloaded(UpstreamError):
    """DeepSeek's 503."""

    status = 503


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before an answer began."""


class ProxyUnreachable(UpstreamUnreachable):
    """No connection came about through the proxies of the pool."""


class UpstreamTimeout(UpstreamError):
    """One of the three clocks (bytes idle, data idle, total) ran out."""

    status = 504


class UpstreamTruncated(UpstreamError):
    """The answer stopped in the middle."""


class UpstreamMisconfigured(UpstreamError):
    """Something answered at the configured address, but no DeepSeek API. Only the operator can mend that."""

    retryable = False


# -- ours -----------------------------------------------------------------------------------------


class Draining(ProxyError):
    """The gateway is shutting down and takes no new work."""

    status = 503
    retryable = True


class StoreUnavailable(ProxyError):
    """What is kept between requests cannot be reached: the disk or the Redis server fails."""

    status = 503
    code = "store_unavailable"
    retryable = True


class StoreFull(ProxyError):
    """No room is left for another stored answer; a sweep makes some, or the owner deletes some."""

    status = 503
    code = "store_full"
    retryable = True


class InternalError(ProxyError):
    """A bug of ours; the log has the traceback under the request id."""
