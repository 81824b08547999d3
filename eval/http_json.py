"""JSON over HTTP with the standard library: retries with a capped back-off, time-outs, and a key that is never told.

Redirects are refused: they would carry the key to another host.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

from configs.errors import DataError, PolicyError, RecipeError, SectorLMError, StorageError
from configs.progress import say

KEY = "SECTORLM_API_KEY"
"""The environment variable of the key."""
TRIES, FIRST, LONGEST = 6, 0.5, 20.0
"""Tries of a request, and seconds of the first and of the longest wait between them."""
TIMEOUT = 300.0
"""Seconds without an answer after which a request is tried again."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Statuses that a later try may not meet (RFC 9110, sections 15.5.9 and 15.6; RFC 6585, section 4)."""
NOT_THERE = frozenset({400, 404, 405, 415, 422, 501})
"""Statuses of a server that does not know what is asked."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect."""


class Refused(NamedTuple):
    """What a server refused."""

    status: int
    told: str


class Server:
    """The API below one URL."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.url, self.timeout = url, timeout
        self.host = urllib.parse.urlsplit(url).netloc
        self.opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            DataError: the server refuses it, or answers with something else than an object of JSON.
            PolicyError: it wants a key, or another one.
            StorageError: it cannot be reached, or is busy for too long.
        """
        found = self._tried(path, body)
        if isinstance(found, Refused):
            raise self._error(path, found)
        return found

    def ask_if_there(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The same, or None where the server does not know this request."""
        found = self._tried(path, body)
        if isinstance(found, Refused):
            if found.status in NOT_THERE:
                return None
            raise self._error(path, found)
        return found

    def version(self) -> dict[str, Any]:
        """What vLLM and its kin tell beside `/v1`; nothing where there is no such page."""
        try:
            with self._request(f"{self.url.removesuffix('/v1')}/version", None) as answer:
                found = json.loads(answer.read(10_000))
        except (OSError, ValueError, http.client.HTTPException):
            return {}
        told = found.get("version") if isinstance(found, dict) else None
        return {"version": str(told)} if told else {}

    def _request(self, url: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "sectorlm"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        return self.opener.open(urllib.request.Request(url, data, headers), timeout=self.timeout)

    def _tried(self, path: str, body: dict[str, Any] | None) -> dict[str, Any] | Refused:
        last = ""
        for number in range(TRIES):
            wait = min(LONGEST, FIRST * 2**number)
            try:
                with self._request(f"{self.url}/{path}", body) as answer:
                    return _object(answer.read(), f"{self.url}/{path}")
            except urllib.error.HTTPError as error:
                told = without_key(error.read(2000).decode("utf-8", "replace"))
                if error.code not in AGAIN:
                    return Refused(error.code, told)
                last, wait = f"status {error.code}: {told[:200]}", _asked_to_wait(error, wait)
            except (OSError, http.client.HTTPException) as error:
                last = without_key(str(getattr(error, "reason", error)) or type(error).__name__)
            if number < TRIES - 1:
                say(f"  {self.url}: {last.splitlines()[0][:120]}; again in {wait:.1f} s")
                time.sleep(wait * random.uniform(0.8, 1.0))  # a crowd that was refused together does not come together
        raise StorageError(
            f"no answer in {TRIES} tries ({last})",
            where=f"{self.url}/{path}",
            hint="What was answered is kept: run the same command again when the server is there.",
        )

    def _error(self, path: str, refused: Refused) -> SectorLMError:
        where = f"{self.url}/{path}"
        if refused.status in (401, 403):
            return PolicyError(
                f"the server refuses the key (status {refused.status})",
                where=where,
                hint=f"Set {KEY} to one that it knows.",
            )
        if 300 <= refused.status < 400:
            return DataError(
                "the server redirects, which is not followed", where=where, hint="Give the URL it leads to."
            )
        return DataError(f"status {refused.status}: {refused.told[:300]}", where=where)


def server_at(url: str) -> Server:
    """The server that a URL means.

    Raises:
        RecipeError: it is none, or holds a password, which would stand in every record.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        raise RecipeError("no host in this URL", where=url, hint="For example: http://localhost:8000/v1#NAME")
    if parts.username or parts.password or parts.query:
        raise RecipeError(
            "a URL with a password or a query would put it into records",
            where=f"{parts.scheme}://{parts.hostname}",
            hint=f"Give the key by the environment variable {KEY}.",
        )
    server = Server(url.rstrip("/"))
    if os.environ.get(KEY) and parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        say(f"  {server.url}: the key goes there unencrypted (http)")
    return server


def without_key(text: str) -> str:
    """A server's words without the key, should it repeat that."""
    key = os.environ.get(KEY)
    return text.replace(key, f"[{KEY}]") if key else text


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise DataError(
            f"the answer is not JSON: {without_key(data[:80].decode('utf-8', 'replace'))!r}", where=where
        ) from error
    if not isinstance(found, dict):
        raise DataError("the answer is not an object of JSON", where=where)
    return found


def _asked_to_wait(error: urllib.error.HTTPError, otherwise: float) -> float:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), within ours."""
    told = error.headers.get("Retry-After", "") if error.headers else ""
    return min(LONGEST, float(told)) if told.isdigit() else otherwise
