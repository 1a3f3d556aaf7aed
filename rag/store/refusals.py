"""What a Qdrant server refuses, or does not answer, in one line of ours. And the client that is asked.

Knows nothing about points or searches.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rag.errors import CollectionMissing, StoreError, StoreUnreachable

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse


def connected(url: str, api_key: str, timeout: float) -> QdrantClient:
    """A client that looks nothing up and says nothing. The key goes in as a header, because giving it as
    `api_key` prints a warning on stderr where the URL is plain http."""
    from qdrant_client import QdrantClient

    headers = {"api-key": api_key} if api_key else {}
    return QdrantClient(url=url, headers=headers, timeout=math.ceil(timeout), check_compatibility=False)


def missing(collection: str, url: str) -> CollectionMissing:
    """The error for a collection that is not there."""
    return CollectionMissing(
        f"no collection {collection!r} at {url}; run `footnote ingest PATH --collection {collection}` first"
    )


@contextmanager
def explained(url: str, timeout: float, collection: str) -> Iterator[None]:
    """Turn what the client raises into one line of ours."""
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        raise _refusal(error, url, timeout, collection) from error
    except ResponseHandlingException as error:
        raise _no_answer(error, url, timeout) from error
    except (QdrantException, httpx.InvalidURL, ValueError) as error:
        raise StoreError(f"Qdrant at {url}: {_line(error)}; check FOOTNOTE_QDRANT_URL and the server's log") from error


def _no_answer(error: ResponseHandlingException, url: str, timeout: float) -> StoreError:
    import httpx

    if isinstance(error.source, httpx.TransportError):
        return _unreachable(url, timeout, _line(error.source) or type(error.source).__name__)
    return StoreError(
        f"Qdrant at {url} gave an answer that cannot be understood ({_line(error.source)}); "
        "check that FOOTNOTE_QDRANT_URL is a Qdrant server, 1.16 or newer"
    )


def _unreachable(url: str, timeout: float, why: str) -> StoreUnreachable:
    return StoreUnreachable(
        f"no answer from Qdrant at {url} within {timeout:g} s: {why}; "
        "start it with `docker compose up -d qdrant` or unset FOOTNOTE_QDRANT_URL"
    )


def _refusal(error: UnexpectedResponse, url: str, timeout: float, collection: str) -> StoreError:
    status = error.status_code
    if status in (401, 403):
        return StoreError(
            f"Qdrant at {url} refused the key ({status}); set FOOTNOTE_QDRANT_API_KEY to the server's key"
        )
    if status == 404:
        return missing(collection, url)
    if status in (502, 503, 504):
        return _unreachable(url, timeout, f"HTTP {status}")
    body = error.content.decode(errors="replace")
    return StoreError(f"Qdrant at {url} answered {status}: {textwrap.shorten(body, 300)}; see the server's log")


def _line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300)
