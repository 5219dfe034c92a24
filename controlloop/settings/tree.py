"""One tree of settings. Each says its unit, meaning, default and, where there is one, off-value.

Sections are frozen; unknown keys, wrong types and values out of bounds are all reported at once.
"""

from __future__ import annotations

from typing import Literal

from controlloop.api.system import DEFAULT_QUEUE_MODEL
from controlloop.settings.form import CONFIG_MAP, Section
from controlloop.settings.form import setting as _setting
from controlloop.settings.learning import EstimatorSettings, ForecasterSettings
from controlloop.settings.stability import StabilitySettings
from controlloop.settings.templates import TemplateSettings


class CycleSettings(Section):
    """When cycles run and how long one may take."""

    period_s: float = _setting(
        15.0, "time between the starts of two cycles", "s", "0: only on demand", ge=0
    )
    deadline_s: float = _setting(
        45.0,
        "time in which a cycle must be done; at twice this the process exits to be restarted",
        "s",
        gt=0,
    )


class DataSettings(Section):
    """Where the static part of the system comes from."""

    source: Literal["files", "crds"] = _setting(
        "files", "`files` are those of the directory, `crds` the custom resources of a namespace"
    )
    namespace: str = _setting(
        "inferno", "namespace of the custom resources, for the source `crds`", min_length=1
    )
    optimizer: str = _setting(
        "", "name of the Optimizer, for the source `crds`", off="empty: the only one there is"
    )
    directory: str = _setting(
        "data", "folder of the data files, relative to the settings file's folder"
    )
    mode: Literal["static", "dynamic"] = _setting(
        "dynamic", "`dynamic` reads the files again each cycle, `static` once at start"
    )


class ClusterSettings(Section):
    """Which workloads are managed and how the API server is asked."""

    namespaces: tuple[str, ...] = _setting(
        (), "namespaces to manage", off="empty: all", strict=False
    )
    scale_targets: dict[str, str] = _setting(
        dict,
        "kinds besides Deployment of which the replicas alone are set, by their scale subresource: "
        "kind: group/version/plural, such as StatefulSet: apps/v1/statefulsets",
    )
    request_timeout_s: float = _setting(10.0, "time-out of one read", "s", gt=0)
    page_size: int = _setting(500, "objects in one page of a list", "objects", ge=1)
    watch: bool = _setting(
        True,  # noqa: FBT003 - a default
        "follow what was listed by watches instead of listing it each cycle",
        off="false",
    )


class CapacitySettings(Section):
    """Where the number of cards by accelerator type comes from."""

    source: Literal["file", "nodes", "elastic"] = _setting(
        "file",
        "`file` is the data file, `nodes` counts the nodes' cards, `elastic` counts up to "
        "`maximum` where a cluster autoscaler adds nodes while pods wait",
    )
    maximum: dict[str, int] = _setting(
        dict,
        "most cards by accelerator type, for `elastic`; with `nodes` its types are elastic",
        "cards",
        strict=False,
    )
    accelerator_types: dict[str, str] = _setting(
        dict,
        "accelerator type by the nodes' product label, or by product/memory; a product that is "
        "not named is a type of its own name, with its memory where only a label says that",
    )
    unplaced_after_s: float = _setting(
        300.0,
        "pods for which no node is found for so long are not counted on: nothing is added where "
        "they wait, and cards that no node shows are not there",
        "s",
        "0: always counted on",
        ge=0,
    )
    tolerated_taints: tuple[str, ...] = _setting(
        ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe"),
        "taints that pods of managed workloads tolerate",
        strict=False,
    )


class PrometheusSettings(Section):
    """The metric source."""

    url: str = _setting(
        "", "address of Prometheus", off="empty: no metric source; loads come from the labels"
    )
    timeout_s: float = _setting(10.0, "time-out of one query", "s", gt=0)
    token_file: str = _setting(
        "", "file with a bearer token, read again when it changes", off="empty: no token"
    )
    ca_file: str = _setting(
        "", "file with the certificate authority to trust", off="empty: the system's"
    )
    username: str = _setting("", "user name of basic authentication", off="empty: none")
    password_file: str = _setting("", "file with the password of basic authentication")


class GatewaySettings(Section):
    """A counter of arrivals kept by a gateway in front of the servers; preferred to the pods'."""

    selector: str = _setting("", "PromQL selector of the counter", off="empty: no gateway")
    server_label: str = _setting("server", "its label that names the server or its Deployment")
    namespace_label: str = _setting("namespace", "its label that names the namespace")


class CollectorSettings(Section):
    """How the fleet is observed."""

    window_s: float = _setting(
        60.0, "time over which rates and means are taken; at least two scrapes", "s", gt=0
    )
    stale_after_s: float = _setting(45.0, "age from which a sample is too old to act on", "s", gt=0)
    metrics_timeout_s: float = _setting(20.0, "time-out of all queries of a cycle", "s", gt=0)
    dialects: tuple[str, ...] = _setting(
        ("vllm",), "engines whose metric names are asked for", strict=False, min_length=1
    )
    matchers: str = _setting("", "further PromQL label matchers of every query", off="empty: none")
    namespace_label: str = _setting("namespace", "label of the series that names the namespace")
    pod_label: str = _setting("pod", "label of the series that names the pod")
    startup_s: float = _setting(
        600.0,
        "time that a pod that was added has at least to become ready; beyond it that is told, and "
        "only as many more are under way as became ready since, or one where a single pod did not",
        "s",
        "0: nothing is made of it",
        ge=0,
    )
    startup_factor: float = _setting(
        3.0,
        "of the start-up time that the server's ready pods showed, where that is more",
        "times",
        ge=1,
    )


class OptimizerSettings(Section):
    """How the joint allocation is found."""

    solver: str = _setting(
        "", "solver plug-in, or 'module:Factory'", off="empty: the optimizer data's flags choose"
    )
    time_limit_s: float = _setting(
        10.0,
        "time after which an exact solver ends with the best answer found, where the optimizer "
        "data gives none (`timeLimit`)",
        "s",
        gt=0,
    )
    gap: float = _setting(
        0.0,
        "gap to the best possible at which an exact solver may end, where the optimizer data gives "
        "none (`gap`)",
        "share of the total value",
        "0: it ends with the proof",
        ge=0,
        le=1,
    )
    queue_model: str = _setting(
        DEFAULT_QUEUE_MODEL,
        "queue model of performance data that names none: its name, or 'module:Factory'",
    )
    drain_time_s: float = _setting(
        30.0,
        "time in which requests that wait now are to be served",
        "s",
        "0: backlog is ignored",
        ge=0,
    )


class ActuatorSettings(Section):
    """How decisions are made real."""

    mode: Literal["apply", "dry-run", "server-dry-run"] = _setting(
        "apply",
        "`apply` sends patches, `dry-run` only prints them, `server-dry-run` has the API server "
        "check them",
    )
    field_manager: str = _setting("controlloop", "owner of the fields that are set", min_length=1)
    write_timeout_s: float = _setting(5.0, "time-out of one write", "s", gt=0)
    events: bool = _setting(True, "write an event for each change and each refusal", off="false")  # noqa: FBT003 - a default
    conditions: bool = _setting(
        True,  # noqa: FBT003 - a default
        "say by an annotation of a Deployment that another controller scales it, while one does",
        off="false",
    )
    concurrency: int = _setting(8, "writes under way at once", "writes", ge=1, le=64)
    templates: dict[str, TemplateSettings] = _setting(
        dict,
        "by accelerator, what a pod needs to run there; see docs/switching.md",
        off="empty: accelerators and batches stay as they are",
    )
    object_templates: bool = _setting(
        False,  # noqa: FBT003 - a default
        "with data.source crds, use the templates of Accelerator objects, before those given "
        "here: who may write such objects then chooses what managed Deployments run",
        off="false",
    )
    switch_startup_s: float = _setting(
        600.0, "the time that the new pods of a switch have at least", "s", gt=0
    )
    switch_startup_factor: float = _setting(
        3.0, "of the start-up time that the running pods showed, where that is more", "times", ge=1
    )
    switch_backoff_s: float = _setting(
        1800.0, "after a failed switch none is tried for so long, doubled by each more", "s", ge=0
    )
    switch_margin: float = _setting(
        0.1, "share of a server's cost that a switch must save", "share", ge=0, lt=1
    )
    switch_cycles: int = _setting(5, "cycles on end in which it must", "cycles", ge=1)
    switch_batches: bool = _setting(
        True,  # noqa: FBT003 - a default
        "servers with a template may change their maximum batch, too",
        off="false",
    )
    siblings: bool = _setting(
        False,  # noqa: FBT003 - a default
        "servers may run on several accelerators at once, where the optimizer data has "
        "`heterogeneous`: Deployments are made for that and removed; see docs/siblings.md",
        off="false: each server runs on one",
    )
    sibling_spread: Literal["even", "capacity"] = _setting(
        "even",
        "how requests reach the replicas of such a server: `even`, as a Service spreads them, or "
        "by `capacity`, as a gateway does that looks at load",
    )
    maintenance_file: str = _setting(
        "",
        "file that stops all writes to the fleet while it is there; its text is the reason. "
        "The annotation `inferno.platform.ai/maintenance` of the Lease does the same",
        off="empty: none",
    )
    respect_s: float = _setting(
        600.0,
        "replicas or an allocation that somebody else set are left alone for so long",
        "s",
        "0: the next cycle may overrule them",
        ge=0,
    )
    revert_limit: int = _setting(
        3,
        "who puts our replicas back so often on end is left alone, and named",
        "reverts",
        "0: never",
        ge=0,
    )
    revert_window_s: float = _setting(
        3600.0, "a revert later than that after the last begins a new count", "s", gt=0
    )
    revert_backoff_s: float = _setting(
        1800.0,
        "who reverts is left alone for so long, doubled by each more, at most a day",
        "s",
        gt=0,
    )
    state_file: str = _setting(
        "",
        "file that keeps what others changed over restarts; read and written by one process",
        off="empty: nothing is kept",
    )
    state_config_map: str = _setting(
        "",
        "ConfigMap, as namespace/name, that keeps it instead of a file; made where there is none, "
        "and not written in a dry run",
        off="empty: nothing is kept",
        pattern=CONFIG_MAP,
    )


class LeaseSettings(Section):
    """One writer: whoever writes holds this Lease."""

    enabled: bool = _setting(True, "take the Lease before writing", off="false")  # noqa: FBT003 - a default
    namespace: str = _setting("inferno", "namespace of the Lease", min_length=1)
    name: str = _setting("controlloop", "name of the Lease", min_length=1)
    identity: str = _setting("", "who holds it", off="empty: host name and process")
    duration_s: int = _setting(
        15,
        "time after which a holder that does not renew is taken over",
        "s",
        ge=3,
        le=2**31 - 1,  # what a Lease can hold
    )
    renew_every_s: float = _setting(4.0, "time between two renewals", "s", gt=0)


class HttpSettings(Section):
    """The daemon's own endpoints."""

    host: str = _setting("0.0.0.0", "address to listen on")  # noqa: S104 - probes come from outside the pod
    port: int = _setting(
        8080, "port to listen on", off="-1: no endpoints; 0: any free port", ge=-1, le=65535
    )


class LogSettings(Section):
    """Structured logs on standard error."""

    format: Literal["auto", "console", "json"] = _setting(
        "auto", "`auto` is console on a terminal and JSON elsewhere"
    )
    level: Literal["debug", "info", "warning", "error"] = _setting("info", "least level shown")


class ReportSettings(Section):
    """CycleReports as JSON lines."""

    file: str = _setting(
        "", "file to append one JSON line a cycle to, '-' is standard output", off="empty: none"
    )


class RecordingSettings(Section):
    """Each cycle's inputs and decisions as JSON lines, for `controlloop replay`."""

    file: str = _setting(
        "", "file that they are written to; one of before moves aside", off="empty: none"
    )
    most_megabytes: float = _setting(
        100.0, "size from which a file moves aside as .1, .2 and so on", "MB", gt=0
    )
    keep: int = _setting(4, "files kept besides the one that is written", "files", ge=0, le=1000)


class Settings(Section):
    """Every setting of the daemon."""

    cycle: CycleSettings = _setting(CycleSettings, "the control period")
    data: DataSettings = _setting(DataSettings, "the static data")
    cluster: ClusterSettings = _setting(ClusterSettings, "the Kubernetes side")
    capacity: CapacitySettings = _setting(CapacitySettings, "the cards")
    prometheus: PrometheusSettings = _setting(PrometheusSettings, "the metric source")
    collector: CollectorSettings = _setting(CollectorSettings, "what is seen of the fleet")
    gateway: GatewaySettings = _setting(GatewaySettings, "an arrival counter before the servers")
    optimizer: OptimizerSettings = _setting(OptimizerSettings, "the optimizer")
    estimator: EstimatorSettings = _setting(EstimatorSettings, "performance parameters")
    forecaster: ForecasterSettings = _setting(ForecasterSettings, "the load ahead")
    stability: StabilitySettings = _setting(StabilitySettings, "steadiness")
    actuator: ActuatorSettings = _setting(ActuatorSettings, "acting")
    lease: LeaseSettings = _setting(LeaseSettings, "one writer")
    http: HttpSettings = _setting(HttpSettings, "own endpoints")
    log: LogSettings = _setting(LogSettings, "logs")
    report: ReportSettings = _setting(ReportSettings, "reports")
    recording: RecordingSettings = _setting(RecordingSettings, "recordings of cycles")
