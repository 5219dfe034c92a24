"""Lists that are kept up to date by watches, so that a cycle asks the API server for nothing.

Each list is read once, then followed by a watch in a thread of its own. A watch lasts half a
minute and is taken up where it ended; its end in order proves that all until then was told. What
is not proven for longer than a set time, or whose watch was cut off, is not served: the list is
read anew, and fails as a list does where the API server is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from controlloop.clock import Clock, SystemClock
from controlloop.errors import ClusterError, ForbiddenError
from controlloop.kube.authors import thin
from controlloop.kube.connection import JSON, METADATA_ONLY, Connection, Object, Query
from controlloop.kube.resources import Resource
from controlloop.kube.translation import ExpiredError

METADATA_ONLY_EVENTS: Final = METADATA_ONLY.replace("MetadataList", "Metadata")
WATCH_LASTS_S: Final = 30
MOST_AGE_S: Final = 40.0
AGAIN_AFTER_S: Final = 1.0


class Lister(Protocol):
    """Gives every object of a kind; `Connection` asks for them, `Informers` has most of them."""

    def items(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> list[Object]:
        """Every object of a kind."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    """What is listed."""

    resource: Resource
    namespace: str
    query: tuple[tuple[str, str], ...]
    accept: str


class Informers:
    """Implements `Lister`: what was listed once is followed by a watch.

    Args:
        connection: to the API server.
        clock: measures ages.
        most_age_s: what is not proven to be so new is read anew.

    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock | None = None,
        most_age_s: float = MOST_AGE_S,
    ) -> None:
        self._connection = connection
        self._clock = clock or SystemClock()
        self._most_age_s = most_age_s
        self._followers: dict[_Question, _Follower] = {}
        self._lock = threading.Lock()

    def items(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> list[Object]:
        """Every object of a kind, from what is followed where that is new enough.

        Raises:
            ClusterError: it is not, and the list cannot be read either.

        """
        question = _Question(resource, namespace, tuple(query), accept)
        with self._lock:
            follower = self._followers.get(question)
            if follower is None:
                follower = _Follower(self._connection, question, self._clock)
                self._followers[question] = follower
        known = follower.items(self._most_age_s)
        return follower.read(timeout_s) if known is None else known

    def close(self) -> None:
        """Follow nothing any more; watches that wait end with their connection."""
        with self._lock:
            for follower in self._followers.values():
                follower.stop()
            self._followers.clear()


class _Follower:
    """One list and its watch. Objects are replaced, never changed: who was given one keeps it."""

    def __init__(self, connection: Connection, question: _Question, clock: Clock) -> None:
        self._connection = connection
        self._question = question
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._listed = 0
        self._version = ""
        self._proven_at: float | None = None
        self._watching = False
        self._forbidden = False
        self._stopping = threading.Event()
        self._log = structlog.get_logger(__name__).bind(kind=question.resource.plural)

    def items(self, most_age_s: float) -> list[Object] | None:
        """What is known, if it is proven to be at most so old."""
        with self._lock:
            proven_at = self._proven_at
            if proven_at is None or self._clock.monotonic() - proven_at > most_age_s:
                return None
            return list(self._objects.values())

    def read(self, timeout_s: float) -> list[Object]:
        """Read the list, and follow it from there."""
        asked = self._question
        before = self._clock.monotonic()
        found = self._connection.listed(
            asked.resource, timeout_s, asked.namespace, asked.query, asked.accept
        )
        with self._lock:
            for each in found.items:
                thin(each["metadata"])
            self._objects = {each["metadata"]["uid"]: each for each in found.items}
            self._listed = int(found.version or 0)
            self._version = found.version
            follow = not self._watching and not self._forbidden and bool(found.version)
            if self._watching:
                # The watch goes on, and what it tells of the time before is passed over.
                self._proven_at = before
            elif follow:
                self._watching = True
                self._proven_at = before
        if follow:
            threading.Thread(
                target=self._follow, name=f"watch-{asked.resource.plural}", daemon=True
            ).start()
        return found.items

    def stop(self) -> None:
        """Follow no more."""
        self._stopping.set()

    def _follow(self) -> None:
        """Watch after watch, until one ends in disorder: then the next list starts anew."""
        try:
            while not self._stopping.is_set():
                self._watch()
        except ForbiddenError as error:
            self._forbidden = True
            self._log.warning("not-watched", error=str(error), then="it is listed each cycle")
        except ExpiredError:
            self._log.info("watch-expired", then="the next cycle lists it anew")
        except ClusterError as error:
            self._log.warning("watch-cut", error=str(error), then="the next cycle lists it anew")
        except Exception:  # noqa: BLE001 - without its thread what is known would only seem new
            self._log.exception("watch-defect")
        finally:
            with self._lock:
                self._watching = False
                self._proven_at = None

    def _watch(self) -> None:
        asked = self._question
        accept = METADATA_ONLY_EVENTS if asked.accept == METADATA_ONLY else asked.accept
        with self._lock:
            version = self._version
        events = self._connection.watch(
            asked.resource, version, WATCH_LASTS_S, asked.namespace, asked.query, accept
        )
        for event in events:
            self._take(event)
            if self._stopping.is_set():
                return
        with self._lock:
            self._proven_at = self._clock.monotonic()

    def _take(self, event: Object) -> None:
        thing: Mapping[str, Any] = event["object"]
        metadata: dict[str, Any] = thing["metadata"]
        thin(metadata)
        with self._lock:
            if int(metadata["resourceVersion"]) <= self._listed:
                return
            self._version = metadata["resourceVersion"]
            self._proven_at = self._clock.monotonic()
            if event["type"] == "DELETED":
                self._objects.pop(metadata["uid"], None)
            elif event["type"] in ("ADDED", "MODIFIED"):
                self._objects[metadata["uid"]] = thing
