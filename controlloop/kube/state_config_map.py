"""A document in a ConfigMap, compressed: whole, and as it was before or after the last save."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlloop.errors import (
    ClusterError,
    ConflictError,
    NotFoundError,
    StateStoreError,
    StateTooLargeError,
)
from controlloop.kube.connection import MERGE_PATCH, Connection, Object
from controlloop.kube.resources import CONFIG_MAPS

KEY: Final = "state.z"
ASIDE: Final = "set-aside.z"
MOST_BYTES: Final = 1_000_000
"""All values of a ConfigMap together may be 1 MiB; the rest is for what others may add."""
MOST_UNPACKED_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class ConfigMapName:
    """Where the document is kept."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return CONFIG_MAPS.named(self.namespace, self.name)


class ConfigMapStateStore:
    """Implements `protocols.StateStore`.

    A save rests on the version that this store last read or wrote: what another process wrote
    meanwhile is not overwritten by that save.

    Args:
        connection: how the API server is asked.
        where: the ConfigMap; it is made by the first save.
        timeout_s: time-out of one request.
        writes: whether anything is written; without, a save keeps nothing.

    """

    def __init__(
        self, connection: Connection, where: ConfigMapName, timeout_s: float, *, writes: bool
    ) -> None:
        self._connection = connection
        self._where = where
        self._timeout_s = timeout_s
        self._writes = writes
        self._known: Object | None = None
        self._read = False

    def load(self) -> bytes | None:
        """What was saved last, or what stands in its place if it is none; None before any save.

        Raises:
            StateStoreError: the ConfigMap cannot be read.

        """
        try:
            self._refresh()
        except ClusterError as error:
            raise StateStoreError(str(error)) from error
        packed = _values(self._known).get(KEY)
        return None if packed is None else _unpacked(packed)

    def save(self, state: bytes) -> None:
        """Put `state` in the ConfigMap.

        Raises:
            StateTooLargeError: it is too large; the ConfigMap is as it was.
            StateStoreError: the ConfigMap cannot be written, or another process wrote it since; it
                is as it was.

        """
        packed = zlib.compress(state, 9)
        aside = _size(_values(self._known).get(ASIDE))
        if len(packed) + aside > MOST_BYTES:
            beside = f" beside {aside} bytes set aside under {ASIDE}" if aside else ""
            raise StateTooLargeError(
                f"{self._where} cannot hold {len(packed)} bytes{beside}: "
                f"at most {MOST_BYTES} fit; keep the state in a file instead"
            )
        self._write({KEY: base64.b64encode(packed).decode()})

    def set_aside(self) -> str:
        """Move what is kept to another key, in place of what was there; says where it is now.

        Raises:
            StateStoreError: the ConfigMap cannot be written; it is as it was.

        """
        where = f"key {ASIDE} of {self._where}"
        if not self._writes:
            return f"key {KEY} of {self._where}, where it stays in a dry run"
        self._write({KEY: None, ASIDE: _values(self._known).get(KEY)})
        return where

    def _refresh(self) -> None:
        what = f"read {self._where}"
        path = CONFIG_MAPS.path(self._where.namespace, self._where.name)
        try:
            self._known = self._connection.get(path, what, self._timeout_s)
        except NotFoundError:
            self._known = None
        self._read = True

    def _write(self, values: Mapping[str, str | None]) -> None:
        if not self._writes:
            return
        try:
            if not self._read:
                self._refresh()
            self._known = self._sent(values)
        except ConflictError as error:
            # The next save rests on what is there then.
            self._read = False
            raise StateStoreError(f"another process wrote it: {error}") from error
        except ClusterError as error:
            # It may have been carried out all the same.
            self._read = False
            raise StateStoreError(str(error)) from error

    def _sent(self, values: Mapping[str, str | None]) -> Object:
        namespace, name = self._where.namespace, self._where.name
        if self._known is None:
            body: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "labels": {"app": "controlloop"}},
                "binaryData": {key: value for key, value in values.items() if value is not None},
            }
            path, what = CONFIG_MAPS.path(namespace), f"create {self._where}"
            return self._connection.send("POST", path, what, self._timeout_s, body)
        version = (self._known.get("metadata") or {}).get("resourceVersion")
        body = {"metadata": {"resourceVersion": version}, "binaryData": dict(values)}
        path, what = CONFIG_MAPS.path(namespace, name), f"write {self._where}"
        return self._connection.send(
            "PATCH", path, what, self._timeout_s, body, content_type=MERGE_PATCH
        )


def _values(known: Object | None) -> Mapping[str, str]:
    return (known or {}).get("binaryData") or {}


def _size(value: str | None) -> int:
    """Bytes of a value, as the API server counts them."""
    return 0 if value is None else len(value) * 3 // 4


def _unpacked(packed: str) -> bytes:
    """The document; what is no compressed document is given as it is, to be recognised as none."""
    try:
        raw = base64.b64decode(packed, validate=True)
    except binascii.Error:
        return packed.encode()
    unpack = zlib.decompressobj()
    try:
        document = unpack.decompress(raw, MOST_UNPACKED_BYTES)
    except zlib.error:
        return raw
    return document if unpack.eof else raw
