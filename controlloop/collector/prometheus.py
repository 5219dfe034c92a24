"""Prometheus, or anything that speaks its API, as a source of raw series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from controlloop.clock import Clock, SystemClock
from controlloop.collector.series import MetricsUnavailableError, Series, parse_matrix
from controlloop.collector.session import QuerySession
from controlloop.errors import MetricsError, Problem, SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a protected source; "" is none. Files are read again when they change.

    Attributes:
        token_file: file with a bearer token.
        username: user of basic authentication.
        password_file: file with that user's password.
        ca_file: file with the certificate authorities to trust; "": the usual ones.

    """

    token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""


class PrometheusSource:
    """Asks a Prometheus for raw series: each query once, within its time-out.

    Args:
        url: its address, with a path prefix where it has one.
        access: credentials and certificate authority.
        clock: measures how long answers take.

    Raises:
        SettingsError: `url` is no address of HTTP, or it holds a user or a password.

    """

    def __init__(self, url: str, access: Access | None = None, clock: Clock | None = None) -> None:
        check_url(url)
        self._url = url.rstrip("/")
        access = access or Access()
        self._ca_file = access.ca_file
        self._ca_seen: tuple[int, int] | None = None
        self._session = QuerySession(_auth(access), clock or SystemClock())
        self._session.verify = access.ca_file or True
        # A retry would multiply the time-out; the next cycle asks again.
        self._connect = PrometheusConnect(
            self._url, session=self._session, retry=Retry(0, read=False)
        )

    def select(self, selector: str, now: float, timeout_s: float) -> tuple[Series, ...]:
        """The raw samples of `selector` in the window that ends at `now`.

        Raises:
            MetricsUnavailableError: no connection, no answer in time, or no right to ask.
            MetricsError: this query is refused, or its answer is partial or not understood.

        """
        asked = {"time": f"{now:.3f}", "timeout": f"{timeout_s:.3f}"}
        return self._ask(
            lambda: self._connect.custom_query(selector, asked, timeout=timeout_s), timeout_s
        )

    def query_range(
        self, query: str, start: float, end: float, step_s: float, timeout_s: float
    ) -> tuple[Series, ...]:
        """The values of `query` at `start`, `start + step_s`, ... up to `end`.

        Raises:
            MetricsUnavailableError: no connection, no answer in time, or no right to ask.
            MetricsError: this query is refused, or its answer is partial or not understood.

        """
        asked = {"timeout": f"{timeout_s:.3f}"}
        first, last = (datetime.fromtimestamp(time, UTC) for time in (start, end))
        step = f"{round(step_s * 1000)}ms"
        return self._ask(
            lambda: self._connect.custom_query_range(
                query, first, last, step, asked, timeout=timeout_s
            ),
            timeout_s,
        )

    def _ask(self, query: Callable[[], object], timeout_s: float) -> tuple[Series, ...]:
        try:
            self._forget_old_authority()
            return parse_matrix(query())
        except MetricsError as error:
            raise type(error)(f"Prometheus at {self._url}: {error}") from error
        except requests.Timeout as error:
            words = f"Prometheus at {self._url} did not answer within {timeout_s:.1f} s"
            raise MetricsUnavailableError(words) from error
        except requests.JSONDecodeError as error:
            raise MetricsUnavailableError(
                f"Prometheus at {self._url} did not answer in JSON: is this its address?"
            ) from error
        except OSError as error:
            words = f"Prometheus at {self._url} cannot be reached: {_root(error)}"
            raise MetricsUnavailableError(words) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            words = f"Prometheus at {self._url} gave an answer without a result: {error!r}"
            raise MetricsError(words) from error

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _forget_old_authority(self) -> None:
        # Connections that are kept were checked against the authority of their time.
        if not self._ca_file:
            return
        found = Path(self._ca_file).stat()
        seen = (found.st_mtime_ns, found.st_ino)
        if seen != self._ca_seen:
            self._session.close()
            self._ca_seen = seen


class _Bearer(AuthBase):
    def __init__(self, file: str) -> None:
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {_secret(self._file)}"
        return request


class _Basic(AuthBase):
    def __init__(self, user: str, file: str) -> None:
        self._user = user
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        password = _secret(self._file) if self._file else ""
        HTTPBasicAuth(self._user.encode(), password.encode())(request)
        return request


def _auth(access: Access) -> AuthBase | None:
    if access.token_file:
        return _Bearer(access.token_file)
    return _Basic(access.username, access.password_file) if access.username else None


def _secret(file: str) -> str:
    """The one line of a file that holds a secret: read for each request, it is always the new."""
    try:
        secret = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MetricsUnavailableError(f"the credential in {file} cannot be read: {error}") from None
    if not secret or not secret.isprintable():
        raise MetricsUnavailableError(f"{file} holds no credential of one line")
    return secret


def check_url(url: str) -> None:
    """Refuse what is no address of HTTP, or holds a secret.

    Raises:
        SettingsError: it is.

    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
        secret = parts.username is not None or parts.password is not None
    except ValueError:
        good, secret = False, False
    if not good:
        rule = "must be an address as http://host:port"
        raise SettingsError([Problem("prometheus.url", rule, repr(url))])
    if secret:
        rule = "must not hold a user or a password: give them by username and password_file"
        raise SettingsError([Problem("prometheus.url", rule)])


def _root(error: BaseException) -> str:
    """What happened at the bottom: the layers above repeat it with the query in it."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return str(error) or type(error).__name__
