"""Conversions between the units on the wire and the units inside.

On the wire: rates in requests/minute. Prometheus and Kubernetes: seconds.
Inside: rates in requests/second, times in milliseconds. Nothing else converts.
"""

from __future__ import annotations

SECONDS_PER_MINUTE = 60.0
MILLISECONDS_PER_SECOND = 1000.0
SECONDS_PER_HOUR = 3600.0
WATTS_PER_KILOWATT = 1000.0
PERCENT = 100.0


def rps_from_rpm(rate_rpm: float) -> float:
    """Requests/second from requests/minute."""
    return rate_rpm / SECONDS_PER_MINUTE


def rpm_from_rps(rate_rps: float) -> float:
    """Requests/minute from requests/second."""
    return rate_rps * SECONDS_PER_MINUTE


def ms_from_s(seconds: float) -> float:
    """Milliseconds from seconds."""
    return seconds * MILLISECONDS_PER_SECOND


def s_from_ms(milliseconds: float) -> float:
    """Seconds from milliseconds."""
    return milliseconds / MILLISECONDS_PER_SECOND


def hours_from_s(seconds: float) -> float:
    """Hours from seconds."""
    return seconds / SECONDS_PER_HOUR


def kw_from_w(power_w: float) -> float:
    """Kilowatts from watts."""
    return power_w / WATTS_PER_KILOWATT
