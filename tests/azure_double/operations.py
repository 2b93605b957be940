"""Long-running operations, and their two kinds of polls."""

from __future__ import annotations

import secrets
import threading
import uuid
from collections.abc import Callable
from typing import Any

from .clock import Clock
from .http import Refused, Request, Response

MANAGEMENT = "https://management.azure.com"


class Operation:
    """One piece of work in its own thread, after `seconds` of Azure's time."""

    def __init__(
        self, work: Callable[[], dict[str, Any] | None], clock: Clock, seconds: float, polls: int
    ) -> None:
        self.id = str(uuid.uuid4())
        self.started = clock.stamp()
        self.ended: str | None = None
        self.status = "InProgress"
        self.error: dict[str, Any] | None = None
        self.http_status = 200
        """The status of the refusal that ended it."""
        self.result: dict[str, Any] | None = None
        self._work = work
        self._clock = clock
        self._seconds = seconds
        self._polls = polls
        self._done = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> Operation:
        threading.Thread(target=self._run, name=f"operation-{self.id}", daemon=True).start()
        return self

    def wait(self) -> None:
        """Block until it ended, for callers inside the double."""
        self._done.wait()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def poll_done(self) -> bool:
        """Return whether a poll reports the end, which it does after a minimum number of polls."""
        with self._lock:
            self._polls -= 1
            return self._done.is_set() and self._polls < 0

    def _run(self) -> None:
        try:
            self._clock.sleep(self._seconds)
            self.result = self._work()
            self.status = "Succeeded"
        except Refused as refused:
            self.error, self.http_status, self.status = refused.error, refused.status, "Failed"
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self.error, self.http_status, self.status = (
                {"code": "InternalServerError", "message": message},
                500,
                "Failed",
            )
            raise
        finally:
            self.ended = self._clock.stamp()
            self._done.set()


class Operations:
    """All operations by the path of their polls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_path: dict[str, Callable[[Request], Response]] = {}
        self.retry_after: float | None = None
        """Azure seconds of the Retry-After header of polls; None sends no header, as recorded."""
        self.polls = 1
        """The minimum number of polls that report an operation as running."""

    def begin(
        self, work: Callable[[], dict[str, Any] | None], *, seconds: float = 0, polls: int | None = None
    ) -> Operation:
        """Start work in a thread; its return value is the result, a Refused the error of the operation."""
        return Operation(work, self._clock, seconds, self.polls if polls is None else polls).start()

    def status_url(
        self, operation: Operation, path: str, version: str, *, extra: str = "", detailed: bool = False
    ) -> str:
        """Serve GET `path`/{id} as an azure-asyncoperation status; return its URL.

        `extra` goes behind the version in the URL. `detailed` is the form that ends with an end time and
        properties, and writes Z behind times.
        """
        place = f"{path}/{operation.id}"

        def answer(_: Request) -> Response:
            done = operation.poll_done()
            body: dict[str, Any] = {
                "id": place,
                "name": operation.id,
                "status": operation.status if done else "InProgress",
                "startTime": operation.started if detailed else operation.started.rstrip("Z"),
            }
            if done and detailed:
                body |= {"endTime": operation.ended, "properties": {}}
            if done and operation.error:
                body["error"] = operation.error
            return Response.of(body, headers=self._wait_headers())

        self._by_path[place.lower()] = answer
        return self._url(place, version + extra)

    def result_url(
        self, operation: Operation, path: str, version: str, *, empty: bool = False, extra: str = ""
    ) -> str:
        """Serve GET `path`/{id} as a Location: 202 until done, then 200 with the result, or 204 (`empty`)."""
        place = f"{path}/{operation.id}"
        url = self._url(place, version + extra)

        def answer(_: Request) -> Response:
            if not operation.poll_done():
                return Response(202, {"location": url, **self._wait_headers()})
            if operation.error:
                return Response.of({"error": operation.error}, max(operation.http_status, 400))
            if empty:
                return Response(204)
            return Response(200) if operation.result is None else Response.of(operation.result)

        self._by_path[place.lower()] = answer
        return url

    def serve(self, path: str, answer: Callable[[Request], Response]) -> None:
        """Serve GET `path` by a function of its own."""
        self._by_path[path.lower()] = answer

    def find(self, request: Request) -> Callable[[Request], Response] | None:
        """The answer to a poll, if this path is one."""
        return self._by_path.get(request.decoded_path.rstrip("/").lower())

    def _wait_headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"retry-after": self._clock.retry_after(self.retry_after)}

    @classmethod
    def signed(cls, path: str, version: str) -> str:
        """The URL for a path served by `serve`."""
        return cls._url(path, version)

    @staticmethod
    def _url(place: str, version: str) -> str:
        """A URL with the signature that ARM puts behind the query."""
        mark = secrets.token_urlsafe(8)
        stamp = secrets.randbelow(10**18)
        return f"{MANAGEMENT}{place}?api-version={version}&t={stamp}&c={mark}&s={mark}&h={mark}"
