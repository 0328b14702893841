"""Translates what the SDK and the HTTP library raise into this program's errors, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

# First, since it decides what the SDK imports.
import app.aws.startup  # isort: skip  # noqa: F401

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from app.outcomes import (
    ConfigurationError,
    FailureError,
    MessageGoneError,
    OutsideError,
    Reason,
    RejectedError,
)

# What the HTTP library raises while a body is read; none of it is an error of the SDK.
HTTP_ERRORS = (HTTPClientError, aiohttp.ClientError, TimeoutError, OSError)

_GONE_CODES = {"MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidIdFormat"}
# SQS says these in the text of a plain InvalidParameterValue.
_GONE_TEXTS = ("does not exist or is not available", "has expired", "not available for visibility")
_THROTTLED_CODES = {
    "RequestThrottled",
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "OverLimit",
    "KmsThrottled",
    "SlowDown",
    "ServiceUnavailable",
    "503",
}
_CREDENTIAL_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestExpired",
    "RequestTimeTooSkewed",
}
DENIED_CODES = {"AccessDenied", "AccessDeniedException", "Forbidden", "403", "KmsAccessDenied"}
MISSING_CODES = {
    "NoSuchKey",
    "NoSuchBucket",
    "NoSuchVersion",
    "404",
    "NotFound",
    "MethodNotAllowed",
}
_CHANGED_CODES = {"PreconditionFailed", "412", "InvalidRange", "416"}
_REASONS = (
    (_THROTTLED_CODES, Reason.THROTTLED),
    (_CREDENTIAL_CODES, Reason.CREDENTIALS),
    (_CHANGED_CODES, Reason.OBJECT_CHANGED),
    (DENIED_CODES, Reason.ACCESS_DENIED),
)
# Of a conditional write: 412 is lost, 409 met another one at the same moment.
CONDITION_CODES = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
UPLOAD_GONE_CODES = {"NoSuchUpload"}
# An answer that blames the request will be the same the next time, but for these two.
_REFUSED_FROM, _REFUSED_TO = 400, 500
_PASSING_STATUS = {408, 429}
_QUEUE_MISSING_CODES = {"QueueDoesNotExist", "NonExistentQueue"}


def codes_of(error: ClientError) -> set[str]:
    """Every name AWS gives an error, without its service's prefix.

    The JSON protocol of SQS has a `Code` and the older `QueryErrorCode`; either may be the one
    that is documented.
    """
    found = error.response.get("Error", {})
    names = (found.get("Code"), found.get("QueryErrorCode"))
    return {str(name).rpartition(".")[2].rpartition("#")[2] for name in names if name}


def codes_behind(error: FailureError) -> set[str]:
    """The names of the AWS error that this one was translated from."""
    return codes_of(error.__cause__) if isinstance(error.__cause__, ClientError) else set()


@contextmanager
def translated(action: str, *, secret: str = "", queue: str = "QUEUE_URL") -> Iterator[None]:
    """Let errors of the SDK leave this block as this program's.

    Args:
        action: what was tried.
        secret: what SQS may say again in its answer, and no log may.
        queue: the variable that names the queue asked.
    """
    try:
        yield
    except ClientError as error:
        if secret:
            # The cause would bring it back into the log.
            raise of_client_error(error, action, queue, secret) from None
        raise of_client_error(error, action, queue) from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise OutsideError(Reason.CREDENTIALS, f"{action}: {error}") from error
    except ParamValidationError as error:
        raise OutsideError(Reason.REFUSED, f"{action}: {error}") from error
    except (BotoCoreError, ResponseParserError, *HTTP_ERRORS) as error:
        text = f"{action}: {type(error).__name__}: {error}"
        raise OutsideError(Reason.TRANSPORT, text) from error


def of_client_error(
    error: ClientError, action: str, queue: str = "QUEUE_URL", secret: str = ""
) -> FailureError:
    """The error that an answer of AWS stands for."""
    codes = codes_of(error)
    text = f"{action}: {error}"
    if secret:
        text = text.replace(secret, "(receipt handle)")
    if codes & _GONE_CODES or any(phrase in str(error) for phrase in _GONE_TEXTS):
        return MessageGoneError(text)
    if codes & _QUEUE_MISSING_CODES:
        return ConfigurationError(f"{queue}: {text}")
    if codes & MISSING_CODES:
        return RejectedError(Reason.OBJECT_MISSING, text)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    refused = _REFUSED_FROM <= status < _REFUSED_TO and status not in _PASSING_STATUS
    unknown = Reason.REFUSED if refused else Reason.TRANSPORT
    reason = next((reason for known, reason in _REASONS if codes & known), unknown)
    return OutsideError(reason, text)
