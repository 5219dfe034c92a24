"""Watches the custom resources by kopf and reconciles when their specs change.

Every event only says that something changed: a reconciliation reads all anew, so a lost event
costs time and nothing else, and kopf keeps no notes in the objects.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import kopf
import structlog

from controlloop.api.custom_kinds import GROUP, VERSION, custom_kinds
from controlloop.errors import ControlLoopError
from controlloop.kube.connection import Credentials
from controlloop.runtime_controller.reconciler import Reconciled

LOOK_EVERY_S: Final = 0.1
# Retried by ourselves, with all that was not written.
RETRY_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """How the controller runs.

    Attributes:
        namespaces: which to watch; none is all.
        debounce_s: quiet time after the last change before a reconciliation.
        resync_s: reconcile at least so often, whatever was heard.
        liveness: address of the liveness endpoint, "http://0.0.0.0:8080/healthz"; "" is none.

    """

    namespaces: tuple[str, ...] = ()
    debounce_s: float = 0.5
    resync_s: float = 300.0
    liveness: str = ""


class Operator:
    """Runs until told to stop.

    Args:
        reconcile: one reconciliation of everything.
        leads: whether this process may write now.
        credentials: how kopf reaches the API server.
        options: see there.

    """

    def __init__(
        self,
        reconcile: Callable[[], Reconciled],
        leads: Callable[[], bool],
        credentials: Callable[[], Credentials],
        options: OperatorOptions,
    ) -> None:
        self._reconcile = reconcile
        self._leads = leads
        self._credentials = credentials
        self._options = options
        self._known: dict[str, object] = {}
        self._changed_at: float | None = None
        self._log = structlog.get_logger("controlloop")

    def run(self, stop: threading.Event) -> None:
        """Watch and reconcile until `stop` is set."""
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        self._touch()
        watching = asyncio.create_task(
            kopf.operator(
                registry=self._registry(),
                settings=_settings(),
                namespaces=self._options.namespaces,
                clusterwide=not self._options.namespaces,
                standalone=True,
                stop_flag=stop,
                liveness_endpoint=self._options.liveness or None,
            )
        )
        working = asyncio.create_task(self._work(stop))
        try:
            done, _ = await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()
            await asyncio.gather(watching, working, return_exceptions=True)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for each in custom_kinds():
            kopf.on.event(GROUP, VERSION, each.plural, registry=registry)(self._seen)
        return registry

    def _login(self, **_: object) -> kopf.ConnectionInfo:
        """Asked at the start and whenever the API server refuses what it was given before."""
        given = self._credentials()
        return kopf.ConnectionInfo(
            server=given.server,
            ca_path=given.ca_file,
            insecure=not given.verify,
            token=given.token,
            username=given.username,
            password=given.password,
            certificate_path=given.cert_file,
            private_key_path=given.key_file,
        )

    async def _seen(self, event: Mapping[str, Any], **_: object) -> None:
        """Note a change of what an object says; our own statuses are no change."""
        each = event["object"]
        metadata = each.get("metadata") or {}
        uid = str(metadata.get("uid"))
        said = (metadata.get("generation"), metadata.get("labels"))
        if event.get("type") == "DELETED":
            self._known.pop(uid, None)
            self._touch()
        elif self._known.get(uid) != said:
            self._known[uid] = said
            self._touch()

    def _touch(self) -> None:
        self._changed_at = asyncio.get_running_loop().time()

    async def _work(self, stop: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        done_at = loop.time()
        led = False
        while not stop.is_set():
            await asyncio.sleep(LOOK_EVERY_S)
            leads = self._leads()
            if leads and not led:
                # What changed while another process led is unknown here.
                self._touch()
            led = leads
            now, changed_at = loop.time(), self._changed_at
            quiet = changed_at is not None and now - changed_at >= self._options.debounce_s
            if not leads or not (quiet or now - done_at >= self._options.resync_s):
                continue
            self._changed_at = None
            done_at = now
            if not await asyncio.to_thread(self._once):
                self._changed_at = loop.time() + RETRY_AFTER_S

    def _once(self) -> bool:
        """One reconciliation; False where it has to be done again."""
        try:
            done = self._reconcile()
        except ControlLoopError as error:
            self._log.error("reconcile-failed", error=str(error), then="tried again")
            return False
        except Exception:  # noqa: BLE001 - a defect in one reconciliation must not end the next
            self._log.exception("reconcile-defect")
            return False
        for failure in done.failures:
            self._log.error("status-not-written", error=failure, then="tried again")
        self._log.info("reconciled", optimizers=done.optimizers, written=done.written)
        return not done.failures


def _settings() -> kopf.OperatorSettings:
    """Kopf keeps nothing in the objects and writes no events of its own."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # Our kinds are there before it starts: it needs no leave to watch definitions.
    settings.scanning.disabled = True
    settings.persistence.progress_storage = kopf.StatusProgressStorage()
    settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    return settings
