from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlloop.backtest.case import Case, PlantKind
from controlloop.backtest.errors import BacktestError
from controlloop.backtest.executors import Dask
from controlloop.backtest.jobs import Job, perform
from controlloop.backtest.results import Results

distributed = pytest.importorskip("distributed")

JOBS = [
    Job(Case("step", hours=0.05, seed=seed, plant=PlantKind.FLUID), "keda-rate", 0.7)
    for seed in (1, 2)
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:
        yield local


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a client of another project, starting a cluster
def test_a_real_cluster_gives_the_rows_that_this_process_gives(cluster: Any) -> None:
    results = Results()
    done = list(results.complete(perform, JOBS, Dask(cluster.scheduler_address)))
    assert sorted(job.key for job in done) == sorted(job.key for job in JOBS)
    assert results[JOBS[0]] == perform(JOBS[0])


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_is_not_there_is_named() -> None:
    with pytest.raises(BacktestError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(Dask("tcp://127.0.0.1:9", timeout_s=0.3).run(perform, JOBS))
