from __future__ import annotations

import numpy as np
import pytest

from controlloop.api.system import System
from controlloop.simulator.engine.server import Results
from controlloop.simulator.history import History, bins_of
from controlloop.simulator.plant import PlantServer, StepSample
from controlloop.simulator.scoring import cost_rate, score
from controlloop.simulator.tally import Tally

HALF_HOUR = 1800.0


@pytest.fixture
def history(small: PlantServer, big: PlantServer) -> History:
    """Two half hours: the small server misses TTFTs, then ITLs; half of `big`'s are never done."""
    return History(
        servers=(small, big),
        card_types=("A100", "H100"),
        step_s=HALF_HOUR,
        times=np.array([HALF_HOUR, 2 * HALF_HOUR]),
        arrived=np.array([[100.0, 50.0], [300.0, 150.0]]),
        within_ttft=np.array([[0.0, 50.0], [300.0, 50.0]]),
        within_itl=np.array([[100.0, 50.0], [0.0, 50.0]]),
        within_both=np.array([[0.0, 50.0], [0.0, 50.0]]),
        ready=np.array([[2, 1], [1, 0]]),
        held=np.array([[2, 2], [3, 1]]),
        cards=np.array([[2, 4], [3, 2]]),
        ttft_bins=np.stack(
            [
                bins_of(np.repeat([1000.0, 2000.0], [390, 10])),
                bins_of(np.repeat([500.0, np.inf], 100)),
            ]
        ),
        itl_bins=np.stack([bins_of(np.full(400, 25.0)), bins_of(np.full(200, 45.0))]),
    )


def test_shares_are_of_what_arrived(catalog: System, history: History) -> None:
    small, big = score(history, catalog).servers

    assert small.attainment.requests == 400
    assert small.attainment.within_ttft == pytest.approx(0.75)
    assert small.attainment.within_itl == pytest.approx(0.25)
    assert small.attainment.within_both == 0.0
    assert big.attainment.within_both == pytest.approx(0.5)


def test_percentiles_are_within_a_bin_and_infinite_where_nothing_came(
    catalog: System, history: History
) -> None:
    small, big = score(history, catalog).servers

    assert small.ttft_ms == pytest.approx((1000.0, 1000.0, 2000.0), rel=0.021)
    assert big.ttft_ms == pytest.approx((500.0, np.inf, np.inf), rel=0.021)
    assert big.itl_ms == pytest.approx((45.0, 45.0, 45.0), rel=0.021)


def test_each_request_is_judged_by_its_own_latencies_in_the_step_it_came(
    catalog: System, small: PlantServer
) -> None:
    def sample(time: float, arrived: float) -> StepSample:
        one = np.array([arrived])
        whole = np.array([2])
        return StepSample(time, one, one, one, one, one, whole, whole, np.array([2, 0]))

    tally = Tally((small,), catalog, 10.0)
    tally.add((sample(10.0, 3.0),), {})
    assert tally.attainment == 1.0
    over = Results(
        arrival_s=np.array([1.0, 9.9, 12.0, 13.0]),
        input_tokens=np.ones(4, dtype=np.int64),
        output_tokens=np.ones(4, dtype=np.int64),
        ttft_ms=np.array([1000.0, 1000.1, 10.0, 10.0]),
        itl_ms=np.array([25.0, 20.0, 25.1, 20.0]),
        done_s=np.full(4, 14.0),
        lost=np.array([False, False, False, True]),
    )
    tally.add((sample(20.0, 3.0),), {"small": over})
    history = tally.history()
    assert history.within_ttft[:, 0].tolist() == [1.0, 1.0]
    assert history.within_itl[:, 0].tolist() == [2.0, 0.0]
    assert history.within_both[:, 0].tolist() == [1.0, 0.0]
    assert tally.attainment == 0.25
    # Two replicas of 100 cents an hour for two steps of 10 s.
    assert tally.cost == pytest.approx(200.0 * 20.0 / 3600.0)


def test_a_class_counts_the_requests_of_all_its_servers(catalog: System, history: History) -> None:
    result = score(history, catalog)

    (premium,) = result.classes
    assert premium.group == "Premium"
    assert premium.requests == 600
    assert premium.within_both == pytest.approx(100 / 600)
    assert result.overall.within_both == premium.within_both


def test_every_replica_that_holds_cards_is_paid_for(catalog: System, history: History) -> None:
    # Half an hour of 2 x 100 + 2 x 500, half an hour of 3 x 100 + 1 x 500.
    assert cost_rate(history, catalog).tolist() == [1200.0, 800.0]
    assert score(history, catalog).cost == pytest.approx(1000.0)


def test_use_of_cards_is_told_against_what_there_is(catalog: System, history: History) -> None:
    a100, h100 = score(history, catalog).cards

    assert (a100.card_type, a100.capacity, a100.mean_held, a100.most_held) == ("A100", 8, 2.5, 3)
    assert (h100.capacity, h100.most_held) == (8, 4)
    assert score(history, catalog).card_hours == pytest.approx(5.5)


def test_replicas_of_a_server_are_those_that_hold_cards(catalog: System, history: History) -> None:
    small, big = score(history, catalog).servers

    assert (small.least_replicas, small.mean_replicas, small.most_replicas) == (2, 2.5, 3)
    assert (big.least_replicas, big.most_replicas) == (1, 2)
