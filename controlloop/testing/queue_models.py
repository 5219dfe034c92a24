"""What every queue model promises, as tests of yours: derive, say which model, run pytest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from controlloop.api.replicas import (
    Analysis,
    FloatArray,
    IntArray,
    Replicas,
    Sizing,
    SizingStatus,
    Targets,
)
from controlloop.protocols import PercentileModel, QueueModel
from controlloop.testing import strategies

# Two roundings of one quantity.
EQUAL: Final = 1e-9
# A sized rate is known to 1e-9; this far beyond it a target must be missed.
BEYOND: Final = 1e-6

# Each class that derives runs the tests as its own; on a busy machine some take long.
_law = settings(
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow], deadline=None
)
_shares = st.floats(0.0, 1.0)


class QueueModelContract:
    """Laws of queue models; override `model`, and `parameters` where their names say too little.

    class TestMine(QueueModelContract):
        def model(self) -> QueueModel:
            return Mine()
    """

    def model(self) -> QueueModel:
        """The model under test."""
        raise NotImplementedError

    def parameters(self) -> st.SearchStrategy[Sequence[float]]:
        """Parameters of one pair that the model can evaluate at every batch and length."""
        return strategies.parameters(self.model().parameter_names)

    def _replicas(self, data: st.DataObject, **sizes: int) -> Replicas:
        return data.draw(strategies.replicas(self.parameters(), **sizes))

    def test_it_has_a_name_and_names_its_parameters_once(self) -> None:
        """Performance data names the model and its parameters."""
        model = self.model()
        assert model.name
        assert model.parameter_names
        assert len(set(model.parameter_names)) == len(model.parameter_names)

    @_law
    @given(data=st.data())
    def test_every_plausible_pair_is_valid(self, data: st.DataObject) -> None:
        """The range of rates is one, and there is a state at both ends."""
        replicas = self._replicas(data)
        low, high = self.model().rate_range_rps(replicas)
        assert low.shape == high.shape == (len(replicas),)
        assert np.all((low > 0) & (low < high))
        for rate in (low, high):
            assert _all_finite(self.model().analyze(replicas, rate))

    def test_no_pairs_have_no_answers(self) -> None:
        """Arrays of length 0 come and go."""
        model = self.model()
        none = np.zeros(0)
        empty = Replicas(
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            none,
            none,
            np.zeros((0, len(model.parameter_names))),
        )
        assert len(model.analyze(empty, none).ttft_ms) == 0
        assert len(model.size(empty, Targets(none, none, none)).rate_rps) == 0

    @_law
    @given(data=st.data(), load=st.floats(0.0, 3.0))
    def test_a_pair_is_answered_alike_alone_and_among_others(
        self, data: st.DataObject, load: float
    ) -> None:
        """No pair's answer depends on the others."""
        model, replicas = self.model(), self._replicas(data)
        rate = load * model.rate_range_rps(replicas)[1]
        asked = data.draw(strategies.targets(*_floors(model, replicas)))
        analysis, sizing = model.analyze(replicas, rate), model.size(replicas, asked)
        for row in range(len(replicas)):
            one = np.array([row])
            alone = replicas.take(one)
            assert _same(model.analyze(alone, rate[one]), analysis, one)
            assert _same(model.size(alone, asked.take(one)), sizing, one)

    @_law
    @given(data=st.data(), load=st.floats(0.0, 3.0))
    def test_the_state_keeps_little_s_law_and_fits_in_the_replica(
        self, data: st.DataObject, load: float
    ) -> None:
        """Waiting is throughput times wait; nobody is in two places; nobody is made up."""
        model, replicas = self.model(), self._replicas(data)
        rate = load * model.rate_range_rps(replicas)[1]
        found = model.analyze(replicas, rate)
        assert np.allclose(found.waiting, found.throughput_rps * found.wait_ms / 1000, rtol=1e-6)
        assert np.allclose(found.utilization, found.in_service / replicas.max_batch, rtol=EQUAL)
        assert np.all((found.utilization >= 0) & (found.utilization <= 1 + EQUAL))
        places = replicas.max_batch + replicas.max_queue
        assert np.all(found.in_system <= places * (1 + EQUAL))
        assert np.all(found.throughput_rps <= rate * (1 + EQUAL))
        assert np.all(found.response_ms >= found.wait_ms)
        for values in (found.wait_ms, found.prefill_ms, found.itl_ms):
            assert np.all(values >= 0)

    @_law
    @given(data=st.data())
    def test_more_arrivals_make_nothing_better(self, data: st.DataObject) -> None:
        """TTFT, ITL and the requests present never fall as the rate rises."""
        model, replica = self.model(), self._replicas(data, most_pairs=1)
        _, high = model.rate_range_rps(replica)
        rate = high * np.concatenate([np.geomspace(1e-3, 0.9, 20), np.linspace(0.9, 3.0, 20)])
        found = model.analyze(replica.take(np.zeros(len(rate), dtype=np.int64)), rate)
        for values in (found.ttft_ms, found.itl_ms, found.in_system):
            assert np.all(np.diff(values) >= -EQUAL * np.abs(values[1:]))

    @_law
    @given(data=st.data())
    def test_every_rate_has_a_state(self, data: st.DataObject) -> None:
        """At rest, at saturation and far beyond it, numbers come out and are bounded."""
        model, replicas = self.model(), self._replicas(data)
        _, high = model.rate_range_rps(replicas)
        for load in (0.0, 1.0, 1 / 0.999, 10.0, 1e9):
            assert _all_finite(model.analyze(replicas, load * high))
        assert np.all(model.analyze(replicas, 0.0 * high).throughput_rps == 0)

    @_law
    @given(data=st.data())
    def test_what_is_sized_holds_and_nothing_more_would(self, data: st.DataObject) -> None:
        """At the sized rate every target holds; a little above it, one does not."""
        model, replicas = self.model(), self._replicas(data)
        asked = data.draw(strategies.targets(*_floors(model, replicas)))
        sizing = model.size(replicas, asked)
        low, high = model.rate_range_rps(replicas)
        assert np.all(sizing.status == SizingStatus.OK)
        three = (sizing.rate_ttft_rps, sizing.rate_itl_rps, sizing.rate_tps_rps)
        assert np.allclose(sizing.rate_rps, np.minimum.reduce(three), rtol=EQUAL)
        at = model.analyze(replicas, sizing.rate_rps)
        assert _same(at, sizing.at, np.arange(len(replicas)))
        assert np.all((at.ttft_ms <= asked.ttft_ms * (1 + BEYOND)) | (asked.ttft_ms == 0))
        assert np.all((at.itl_ms <= asked.itl_ms * (1 + BEYOND)) | (asked.itl_ms == 0))
        cap = np.where(asked.tps > 0, 0.9, 1.0) * high
        assert np.all((sizing.rate_rps >= low * (1 - EQUAL)) & (sizing.rate_rps <= cap + EQUAL))
        above = model.analyze(replicas, sizing.rate_rps * (1 + BEYOND))
        missed = (above.ttft_ms > asked.ttft_ms) & (asked.ttft_ms > 0)
        missed |= (above.itl_ms > asked.itl_ms) & (asked.itl_ms > 0)
        assert np.all(missed | np.isclose(sizing.rate_rps, cap, rtol=BEYOND))

    @_law
    @given(data=st.data())
    def test_without_targets_the_greatest_rate_is_the_answer(self, data: st.DataObject) -> None:
        """0 is no target; one for tokens per second leaves a tenth free."""
        model, replicas = self.model(), self._replicas(data)
        _, high = model.rate_range_rps(replicas)
        none = np.zeros(len(replicas))
        assert np.allclose(_size(model, replicas, none, none).rate_rps, high, rtol=EQUAL)
        with_tps = model.size(replicas, Targets(none, none, none + 1))
        assert np.allclose(with_tps.rate_rps, 0.9 * high, rtol=EQUAL)

    @_law
    @given(data=st.data(), share=st.floats(0.1, 0.999))
    def test_a_target_below_its_floor_is_out_of_reach(
        self, data: st.DataObject, share: float
    ) -> None:
        """The status says which, the floor what could be had, and the rate is 0."""
        model, replicas = self.model(), self._replicas(data)
        floor_ttft_ms, floor_itl_ms = _floors(model, replicas)
        none = np.zeros(len(replicas))
        assume(np.all(floor_ttft_ms > 0) and np.all(floor_itl_ms > 0))
        by_ttft = _size(model, replicas, share * floor_ttft_ms, none)
        by_itl = _size(model, replicas, none, share * floor_itl_ms)
        assert np.all(by_ttft.status == SizingStatus.TTFT_UNREACHABLE)
        assert np.all(by_itl.status == SizingStatus.ITL_UNREACHABLE)
        for sizing in (by_ttft, by_itl):
            assert np.all(sizing.rate_rps == 0)
            assert np.all(np.isnan(sizing.at.itl_ms))
            assert np.allclose(sizing.floor_itl_ms, floor_itl_ms, rtol=EQUAL)

    @_law
    @given(
        data=st.data(),
        bad=st.sampled_from(
            [
                ("max_batch", 0),
                ("max_batch", -3),
                ("max_queue", -1),
                ("input_tokens", np.nan),
                ("input_tokens", -1.0),
                ("output_tokens", np.inf),
                ("output_tokens", -5.0),
                ("parameters", np.nan),
                ("parameters", np.inf),
            ]
        ),
    )
    def test_an_invalid_pair_is_told_and_disturbs_no_other(
        self, data: st.DataObject, bad: tuple[str, Any]
    ) -> None:
        """Not a number is what comes out of what is none, for that pair alone."""
        model, replicas = self.model(), self._replicas(data)
        rows = np.append(np.arange(len(replicas)), 0)
        mixed = replicas.take(rows)
        name, value = bad
        getattr(mixed, name)[-1] = value
        good = np.arange(len(replicas))
        none = np.zeros(len(rows))
        rate = np.full(len(rows), 0.5 * float(model.rate_range_rps(replicas)[1][0]))
        analysis, sizing = model.analyze(mixed, rate), _size(model, mixed, none, none)
        assert np.isnan(analysis.ttft_ms[-1])
        assert np.isnan(model.rate_range_rps(mixed)[1][-1])
        assert sizing.status[-1] == SizingStatus.INVALID
        assert sizing.rate_rps[-1] == 0
        assert _same(model.analyze(replicas, rate[good]), analysis, good)
        assert _same(_size(model, replicas, none[good], none[good]), sizing, good)

    @_law
    @given(data=st.data(), value=st.sampled_from([np.nan, -1.0, np.inf]))
    def test_an_invalid_rate_or_target_has_no_answer(
        self, data: st.DataObject, value: float
    ) -> None:
        """A rate that is none has no state, a target that is none no rate."""
        model, replicas = self.model(), self._replicas(data)
        wrong, none = np.full(len(replicas), value), np.zeros(len(replicas))
        assert np.all(np.isnan(model.analyze(replicas, wrong).ttft_ms))
        if value != np.inf:
            for sizing in (
                _size(model, replicas, wrong, none),
                _size(model, replicas, none, wrong),
            ):
                assert np.all(sizing.status == SizingStatus.INVALID)
                assert np.all(sizing.rate_rps == 0)

    @_law
    @given(data=st.data(), load=st.floats(0.0, 3.0))
    def test_percentiles_rise_with_their_level(self, data: st.DataObject, load: float) -> None:
        """Of a model that has percentiles; the lowest lie below the mean."""
        model, replicas = self.model(), self._replicas(data)
        if not isinstance(model, PercentileModel):
            return
        rate = load * model.rate_range_rps(replicas)[1]
        levels = (0.001, 0.5, 0.9, 0.99, 0.9999)
        found, mean = model.percentiles(replicas, rate, levels), model.analyze(replicas, rate)
        assert found.levels == levels
        for values, middle in ((found.ttft_ms, mean.ttft_ms), (found.itl_ms, mean.itl_ms)):
            assert values.shape == (len(levels), len(replicas))
            assert np.all(np.isfinite(values) & (values >= 0))
            assert np.all(np.diff(values, axis=0) >= -EQUAL * values[1:])
            assert np.all(values[0] <= middle * (1 + EQUAL))


def _size(model: QueueModel, replicas: Replicas, ttft_ms: FloatArray, itl_ms: FloatArray) -> Sizing:
    return model.size(replicas, Targets(itl_ms, ttft_ms, np.zeros(len(replicas))))


def _floors(model: QueueModel, replicas: Replicas) -> tuple[FloatArray, FloatArray]:
    """The least TTFT and ITL possible."""
    none = np.zeros(len(replicas))
    sizing = _size(model, replicas, none, none)
    return sizing.floor_ttft_ms, sizing.floor_itl_ms


def _all_finite(analysis: Analysis) -> bool:
    return all(bool(np.all(np.isfinite(getattr(analysis, f.name)))) for f in fields(analysis))


def _same(part: Analysis | Sizing, whole: Analysis | Sizing, rows: IntArray) -> bool:
    """Whether `part` is what `whole` says of `rows`."""
    for field in fields(part):
        one, other = getattr(part, field.name), getattr(whole, field.name)
        if isinstance(one, Analysis):
            if not _same(one, other, rows):
                return False
        elif not np.allclose(one, other[rows], rtol=EQUAL, atol=0.0, equal_nan=True):
            return False
    return True
