"""Requests to the API server: each with its own time-out, none repeated behind the caller's back.

Objects are the API's JSON as it is: turning thousands of pods into the client's classes costs
seconds of a cycle, and the few fields that matter are read in `parsing` and `nodes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import OpenApiException
from kubernetes.config.config_exception import ConfigException

from controlloop import __version__
from controlloop.clock import Deadline, SystemClock
from controlloop.errors import Problem, SettingsError, UnavailableError
from controlloop.kube.resources import Resource
from controlloop.kube.translation import ExpiredError, refusal
from controlloop.units import ms_from_s

Query = Sequence[tuple[str, str]]
Object = Mapping[str, Any]

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
METADATA_ONLY: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
CHUNK_BYTES: Final = 1 << 16
TIMES_TO_READ_A_LIST: Final = 2
CUT_OFF_AFTER_S: Final = 5.0
"""A watch that says nothing for so long after its end in order was cut off."""
SUCCESS: Final = range(200, 300)
NOTHING_FOUND: Final = "No configuration found"
"""What the client says where there is no kubeconfig."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Objects of a kind, and the version of the whole from which a watch goes on."""

    items: list[Object]
    version: str


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Which API server, and how it is asked.

    Attributes:
        kubeconfig: file with the address and credentials; "" takes the service account where
            there is one, else the user's usual kubeconfig.
        context: the kubeconfig's context; "" is its current one.
        pool_size: connections kept open, requests under way at once.
        page_size: objects in one page of a list.

    """

    kubeconfig: str = ""
    context: str = ""
    pool_size: int = 16
    page_size: int = 500


@dataclass(frozen=True, slots=True)
class Credentials:
    """How another client reaches the same API server; what is None is not used."""

    server: str
    verify: bool
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    token: str | None = field(repr=False)
    username: str | None
    password: str | None = field(repr=False)


def credentials(options: ConnectionOptions) -> Credentials:
    """The address and credentials as they are now: a token may have been rotated.

    Raises:
        SettingsError: the kubeconfig, its context or the service account cannot be used.

    """
    settings = _configuration(options)
    header = settings.get_api_key_with_prefix("BearerToken", alias="authorization")
    return Credentials(
        server=settings.host,
        verify=bool(settings.verify_ssl),
        ca_file=settings.ssl_ca_cert or None,
        cert_file=settings.cert_file or None,
        key_file=settings.key_file or None,
        token=str(header).split()[-1] if header else None,
        username=settings.username or None,
        password=settings.password or None,
    )


def connect(options: ConnectionOptions) -> Connection:
    """A connection by kubeconfig or service account; nothing is sent yet.

    Raises:
        SettingsError: the kubeconfig, its context or the service account cannot be used.

    """
    settings = _configuration(options)
    settings.retries = False
    settings.connection_pool_maxsize = options.pool_size
    client = ApiClient(settings)
    client.user_agent = f"controlloop/{__version__}"
    return Connection(client, options.page_size)


def _configuration(options: ConnectionOptions) -> Configuration:
    settings = Configuration()
    try:
        _load(options, settings)
    except (ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        where = options.kubeconfig or "service account or default kubeconfig"
        context = f", context {options.context!r}" if options.context else ""
        malformed = isinstance(error, TypeError | KeyError | ValueError)
        why = "it is no kubeconfig" if malformed else str(error).rstrip(".")
        if NOTHING_FOUND in why and options.kubeconfig:
            why = "there is no such kubeconfig"
        elif NOTHING_FOUND in why:
            why, where = "which one? see --kubeconfig", "no service account, no default kubeconfig"
        problem = Problem("cluster", f"cannot be used: {why}", f"{where}{context}")
        raise SettingsError([problem]) from error
    return settings


def _load(options: ConnectionOptions, settings: Configuration) -> None:
    if not options.kubeconfig and not options.context:
        try:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        except ConfigException:
            # Not in a pod: the kubeconfig that kubectl would use.
            pass
        else:
            return
    config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=options.kubeconfig or None,
        context=options.context or None,
        client_configuration=settings,
        persist_config=False,
    )


class Connection:
    """Sends single requests and reads whole lists.

    Every method raises ClusterError and its kinds, and nothing else, when the API server
    refuses or does not answer within `timeout_s`. `what` says in messages what was asked.
    """

    def __init__(self, client: ApiClient, page_size: int = 500) -> None:
        self._client = client
        self._page_size = page_size
        self._clock = SystemClock()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._client.close()  # type: ignore[no-untyped-call]

    def get(self, path: str, what: str, timeout_s: float) -> Object:
        """One object."""
        return self._request("GET", path, what, Deadline(self._clock, timeout_s))

    def send(
        self,
        method: str,
        path: str,
        what: str,
        timeout_s: float,
        body: Object,
        query: Query = (),
        content_type: str = JSON,
    ) -> Object:
        """Write one object (`method` POST, PUT or PATCH); the object as it is afterwards."""
        deadline = Deadline(self._clock, timeout_s)
        headers = {"Content-Type": content_type}
        return self._request(method, path, what, deadline, query, headers, body)

    def server_time(self, path: str, what: str, timeout_s: float) -> float | None:
        """The API server's clock, seconds since the epoch to the second, as its answer is dated."""
        heard: list[str] = []
        deadline = Deadline(self._clock, timeout_s)
        self._request("GET", path, what, deadline, on_date=heard.append)
        try:
            return parsedate_to_datetime(heard[0]).timestamp()
        except (IndexError, ValueError):
            return None

    def items(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> list[Object]:
        """Every object of a kind; see `listed`."""
        return self.listed(resource, timeout_s, namespace, query, accept).items

    def listed(
        self,
        resource: Resource,
        timeout_s: float,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> Listed:
        """Every object of a kind, page by page; `timeout_s` is for all pages together.

        The list is the newest one: a cached one could be older than our own last write.
        """
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        what = f"list {resource.plural} {where}"
        deadline = Deadline(self._clock, timeout_s)
        for attempts_left in reversed(range(TIMES_TO_READ_A_LIST)):
            try:
                return self._pages(resource.path(namespace), what, deadline, query, accept)
            except ExpiredError:
                if not attempts_left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def watch(
        self,
        resource: Resource,
        version: str,
        lasts_s: int,
        namespace: str = "",
        query: Query = (),
        accept: str = JSON,
    ) -> Iterator[Object]:
        """What changes of a kind since `version`, as events, as they happen.

        The API server ends it in order after `lasts_s`; an iteration that ends without an error
        has told everything until then.

        Raises:
            ClusterError: refused, or cut off; ExpiredError: `version` is too old to go on from.

        """
        what = f"watch {resource.plural}"
        more = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(lasts_s)),
        ]
        try:
            method, url, headers, _, _ = self._client.param_serialize(
                method="GET",
                resource_path=resource.path(namespace),
                query_params=[*query, *more],
                header_params={"Accept": accept},
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(
                method, url, headers, None, _request_timeout=(lasts_s, lasts_s + CUT_OFF_AFTER_S)
            )
            response = answer.response
            if answer.status not in SUCCESS:
                deadline = Deadline(self._clock, CUT_OFF_AFTER_S)
                raise refusal(what, answer.status, _content(response, what, deadline))
            yield from _events(response, what)
        except ConfigException as error:
            raise UnavailableError(f"cannot {what}: no valid credentials: {error}") from error
        except (urllib3.exceptions.HTTPError, OpenApiException, OSError) as error:
            raise UnavailableError(f"cannot {what}: {_cause(error)}") from error

    def _pages(self, path: str, what: str, deadline: Deadline, query: Query, accept: str) -> Listed:
        found: list[Object] = []
        version = ""
        following = ""
        while True:
            page = [("limit", str(self._page_size))]
            if following:
                page.append(("continue", following))
            answer = self._request("GET", path, what, deadline, [*query, *page], {"Accept": accept})
            found += answer.get("items") or ()
            metadata = answer.get("metadata") or {}
            version = version or str(metadata.get("resourceVersion") or "")
            following = metadata.get("continue") or ""
            if not following:
                return Listed(found, version)

    def _request(
        self,
        method: str,
        path: str,
        what: str,
        deadline: Deadline,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Object | None = None,
        on_date: Callable[[str], object] = lambda _: None,
    ) -> Object:
        try:
            method, url, sent_headers, sent_body, _ = self._client.param_serialize(
                method=method,
                resource_path=path,
                query_params=list(query),
                header_params={"Accept": JSON, **(headers or {})},
                body=body,
                auth_settings=["BearerToken"],
            )
            # Only now: credentials may come from a program that takes its time.
            timeout_s = deadline.remaining_s()
            if timeout_s <= 0:
                raise UnavailableError(f"cannot {what}: its time is up before it is asked")
            answer = self._client.call_api(
                method,
                _limited(url, timeout_s),
                sent_headers,
                sent_body,
                _request_timeout=timeout_s,
            )
            on_date(answer.response.headers.get("Date", ""))
            content = _content(answer.response, what, deadline)
        except ConfigException as error:
            raise UnavailableError(f"cannot {what}: no valid credentials: {error}") from error
        except (urllib3.exceptions.HTTPError, OpenApiException, OSError) as error:
            raise UnavailableError(f"cannot {what}: {_cause(error)}") from error
        if answer.status not in SUCCESS:
            raise refusal(what, answer.status, content)
        return _decoded(content, what)


def _limited(url: str, timeout_s: float) -> str:
    """The server gives up when we do: a write that arrives late is not carried out for long."""
    limit = f"timeout={max(int(ms_from_s(timeout_s)), 1)}ms"
    return f"{url}{'&' if '?' in url else '?'}{limit}"


def _content(response: urllib3.HTTPResponse, what: str, deadline: Deadline) -> bytes:
    """The whole body; a time-out of the socket alone would let a trickle go on for ever."""
    chunks = []
    while chunk := response.read1(CHUNK_BYTES, decode_content=True):
        chunks.append(chunk)
        if deadline.remaining_s() <= 0:
            response.close()
            raise UnavailableError(f"cannot {what}: the answer came too slowly, its time is up")
    response.release_conn()
    return b"".join(chunks)


def _events(response: urllib3.HTTPResponse, what: str) -> Iterator[Object]:
    """The lines of a watch; an error in it is the API server's own status."""
    rest = b""
    try:
        while chunk := response.read1(CHUNK_BYTES, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = _decoded(line, what)
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    code = int(status.get("code") or 0)
                    raise refusal(what, code, json.dumps(status).encode())
                yield event
    finally:
        response.close()


def _decoded(content: bytes, what: str) -> Object:
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise UnavailableError(f"cannot {what}: the answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise UnavailableError(f"cannot {what}: the answer is no object but {answer!r:.80}")
    return answer


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ").strip()
