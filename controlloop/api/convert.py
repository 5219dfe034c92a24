"""JSON forms to the domain values of `controlloop.api.system`, and back.

On the wire rates are in requests/minute, inside in requests/second; times are in ms on both
sides, costs in cents/hour. `Server.backlog_rps` has no place on the wire.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from controlloop.api import specs
from controlloop.api.solution import Solution
from controlloop.api.system import (
    DEFAULT_PARAMETER_NAMES,
    Accelerator,
    Allocation,
    Load,
    Objective,
    OptimizerOptions,
    PerfParameters,
    Power,
    Server,
    ServiceClass,
    System,
    Tail,
    Target,
    Variant,
)
from controlloop.units import rpm_from_rps, rps_from_rpm


def system_from_spec(data: specs.SystemData) -> System:
    """The system that `data` describes; orders are kept."""
    spec = data.system
    return System(
        accelerators=tuple(
            accelerator_from_spec(each) for each in spec.accelerator_data.accelerators
        ),
        capacity=MappingProxyType({each.type: each.count for each in spec.capacity_data.count}),
        perf=tuple(perf_from_spec(each) for each in spec.model_data.models),
        classes=tuple(class_from_spec(each) for each in spec.service_class_data.service_classes),
        servers=tuple(server_from_spec(each) for each in spec.server_data.servers),
        options=options_from_spec(spec.optimizer_data.optimizer),
    )


def spec_from_system(system: System) -> specs.SystemData:
    """`system` in its documented form; what `system_from_spec` reads is the same again."""
    return specs.SystemData(
        system=specs.SystemSpec(
            accelerator_data=specs.AcceleratorData(
                accelerators=tuple(spec_from_accelerator(each) for each in system.accelerators)
            ),
            capacity_data=specs.CapacityData(
                count=tuple(
                    specs.AcceleratorCount(type=type_, count=count)
                    for type_, count in system.capacity.items()
                )
            ),
            model_data=specs.ModelData(models=tuple(spec_from_perf(each) for each in system.perf)),
            service_class_data=specs.ServiceClassData(
                service_classes=tuple(spec_from_class(each) for each in system.classes)
            ),
            server_data=specs.ServerData(
                servers=tuple(spec_from_server(each) for each in system.servers)
            ),
            optimizer_data=specs.OptimizerData(optimizer=spec_from_options(system.options)),
        )
    )


def accelerator_from_spec(spec: specs.AcceleratorSpec) -> Accelerator:
    """An accelerator from its form."""
    return Accelerator(
        name=spec.name,
        type=spec.type,
        multiplicity=spec.multiplicity,
        cost_per_hour=spec.cost,
        memory_gb=spec.mem_size,
        bandwidth_gb_s=spec.mem_bw,
        power=Power(
            idle_w=spec.power.idle,
            full_w=spec.power.full,
            mid_w=spec.power.mid_power,
            mid_utilization=spec.power.mid_util,
        ),
    )


def spec_from_accelerator(accelerator: Accelerator) -> specs.AcceleratorSpec:
    """The form of an accelerator."""
    power = accelerator.power
    return specs.AcceleratorSpec(
        name=accelerator.name,
        type=accelerator.type,
        multiplicity=accelerator.multiplicity,
        mem_size=accelerator.memory_gb,
        mem_bw=accelerator.bandwidth_gb_s,
        power=specs.PowerSpec(
            idle=power.idle_w,
            full=power.full_w,
            mid_power=power.mid_w,
            mid_util=power.mid_utilization,
        ),
        cost=accelerator.cost_per_hour,
    )


def perf_from_spec(spec: specs.ModelAcceleratorPerfData) -> PerfParameters:
    """Performance parameters from their form; named ones keep their order."""
    given = spec.parameters
    if spec.decode_parms is not None and spec.prefill_parms is not None:
        decode, prefill = spec.decode_parms, spec.prefill_parms
        values = (decode.alpha, decode.beta, prefill.gamma, prefill.delta)
        given = dict(zip(DEFAULT_PARAMETER_NAMES, values, strict=True))
    return PerfParameters(
        model=spec.name,
        accelerator=spec.acc,
        parameters=tuple(given.values()) if given else (),
        max_batch=spec.max_batch_size,
        at_tokens=spec.at_tokens,
        accelerators_per_replica=spec.acc_count,
        queue_model=spec.queue_model or "",
        parameter_names=tuple(given) if given else (),
        log_covariance=spec.log_covariance or (),
    )


def spec_from_perf(perf: PerfParameters) -> specs.ModelAcceleratorPerfData:
    """The form of performance parameters: decode and prefill where the names are theirs."""
    named = dict(zip(perf.parameter_names, perf.parameters, strict=True))
    usual = perf.parameter_names == DEFAULT_PARAMETER_NAMES
    return specs.ModelAcceleratorPerfData(
        name=perf.model,
        acc=perf.accelerator,
        acc_count=perf.accelerators_per_replica,
        max_batch_size=perf.max_batch,
        at_tokens=perf.at_tokens,
        queue_model=perf.queue_model or None,
        parameters=None if usual else named,
        decode_parms=(
            specs.DecodeParms(alpha=named["alpha_ms"], beta=named["beta_ms"]) if usual else None
        ),
        prefill_parms=(
            specs.PrefillParms(gamma=named["gamma_ms"], delta=named["delta_ms"]) if usual else None
        ),
        log_covariance=perf.log_covariance or None,
    )


def target_from_spec(spec: specs.ModelTarget) -> Target:
    """The objectives of one model from their form."""
    return Target(
        spec.model,
        itl_ms=spec.slo_itl,
        ttft_ms=spec.slo_ttft,
        tps=spec.slo_tps,
        itl_percentile=spec.slo_itl_percentile or 0.0,
        ttft_percentile=spec.slo_ttft_percentile or 0.0,
    )


def spec_from_target(target: Target) -> specs.ModelTarget:
    """The form of the objectives of one model."""
    return specs.ModelTarget(
        model=target.model,
        slo_itl=target.itl_ms,
        slo_itl_percentile=target.itl_percentile or None,
        slo_ttft=target.ttft_ms,
        slo_ttft_percentile=target.ttft_percentile or None,
        slo_tps=target.tps,
    )


def class_from_spec(spec: specs.ServiceClassSpec) -> ServiceClass:
    """A class of service from its form."""
    targets = tuple(target_from_spec(each) for each in spec.model_targets)
    return ServiceClass(spec.name, spec.priority, targets)


def spec_from_class(service_class: ServiceClass) -> specs.ServiceClassSpec:
    """The form of a class of service."""
    return specs.ServiceClassSpec(
        name=service_class.name,
        priority=service_class.priority,
        model_targets=tuple(spec_from_target(each) for each in service_class.targets),
    )


def load_from_spec(spec: specs.LoadSpec) -> Load:
    """A load from its form: requests/minute to requests/s."""
    return Load(rps_from_rpm(spec.arrival_rate), spec.avg_in_tokens, spec.avg_out_tokens)


def spec_from_load(load: Load) -> specs.LoadSpec:
    """The form of a load: requests/s to requests/minute."""
    # Twelve digits: a rate that was read as 108.15 is written as 108.15.
    return specs.LoadSpec(
        arrival_rate=float(f"{rpm_from_rps(load.rate_rps):.12g}"),
        avg_in_tokens=load.input_tokens,
        avg_out_tokens=load.output_tokens,
    )


def allocation_from_spec(spec: specs.AllocationData) -> Allocation:
    """An allocation from its form."""
    return Allocation(
        accelerator=spec.accelerator,
        replicas=spec.num_replicas,
        max_batch=spec.max_batch,
        cost_per_hour=spec.cost,
        itl_ms=spec.itl_average,
        ttft_ms=spec.ttft_average,
        load=load_from_spec(spec.load),
        variants=tuple(variant_from_spec(each) for each in spec.variants or ()),
    )


def spec_from_allocation(allocation: Allocation) -> specs.AllocationData:
    """The form of an allocation; totals stand beside the variants where there are any."""
    return specs.AllocationData(
        accelerator=allocation.accelerator,
        num_replicas=allocation.replicas,
        max_batch=allocation.max_batch,
        cost=allocation.cost_per_hour,
        itl_average=allocation.itl_ms,
        ttft_average=allocation.ttft_ms,
        load=spec_from_load(allocation.load),
        variants=tuple(spec_from_variant(each) for each in allocation.variants) or None,
        total_replicas=allocation.total_replicas if allocation.variants else None,
        total_cost=allocation.total_cost_per_hour if allocation.variants else None,
        itl_percentile=_tail(allocation.itl_tail),
        ttft_percentile=_tail(allocation.ttft_tail),
    )


def _tail(tail: Tail | None) -> specs.TailSpec | None:
    return None if tail is None else specs.TailSpec(percentile=tail.percentile, latency=tail.ms)


def variant_from_spec(spec: specs.VariantSpec) -> Variant:
    """A variant from its form."""
    return Variant(
        accelerator=spec.accelerator,
        replicas=spec.num_replicas,
        max_batch=spec.max_batch,
        cost_per_hour=spec.cost,
        itl_ms=spec.itl_average,
        ttft_ms=spec.ttft_average,
        share=spec.share,
    )


def spec_from_variant(variant: Variant) -> specs.VariantSpec:
    """The form of a variant."""
    return specs.VariantSpec(
        accelerator=variant.accelerator,
        num_replicas=variant.replicas,
        max_batch=variant.max_batch,
        cost=variant.cost_per_hour,
        itl_average=variant.itl_ms,
        ttft_average=variant.ttft_ms,
        share=variant.share,
    )


def server_from_spec(spec: specs.ServerSpec) -> Server:
    """A server from its form."""
    desired = spec.desired_alloc
    return Server(
        name=spec.name,
        model=spec.model,
        service_class=spec.service_class,
        keep_accelerator=spec.keep_accelerator,
        min_replicas=spec.min_num_replicas,
        max_batch=spec.max_batch_size,
        current=allocation_from_spec(spec.current_alloc),
        desired=None if desired is None else allocation_from_spec(desired),
    )


def spec_from_server(server: Server) -> specs.ServerSpec:
    """The form of a server."""
    desired = server.desired
    return specs.ServerSpec(
        name=server.name,
        service_class=server.service_class,
        model=server.model,
        keep_accelerator=server.keep_accelerator,
        min_num_replicas=server.min_replicas,
        max_batch_size=server.max_batch,
        current_alloc=spec_from_allocation(server.current),
        desired_alloc=None if desired is None else spec_from_allocation(desired),
    )


def options_from_spec(spec: specs.OptimizerSpec) -> OptimizerOptions:
    """The optimizer's options from their form."""
    return OptimizerOptions(
        unlimited=spec.unlimited,
        heterogeneous=spec.heterogeneous,
        milp_solver=spec.milp_solver,
        use_cplex=spec.use_cplex,
        delayed_best_effort=spec.delayed_best_effort,
        saturation_policy=spec.saturation_policy,
        solver=spec.solver or "",
        objective=spec.objective or Objective.COST,
        energy_price=spec.energy_price or 0.0,
        time_limit_s=spec.time_limit,
        gap=spec.gap,
        confidence=spec.confidence or 0.0,
    )


def spec_from_options(options: OptimizerOptions) -> specs.OptimizerSpec:
    """The form of the optimizer's options."""
    return specs.OptimizerSpec(
        unlimited=options.unlimited,
        heterogeneous=options.heterogeneous,
        milp_solver=options.milp_solver,
        use_cplex=options.use_cplex,
        delayed_best_effort=options.delayed_best_effort,
        saturation_policy=options.saturation_policy,
        solver=options.solver or None,
        objective=None if options.objective is Objective.COST else options.objective,
        energy_price=(options.energy_price if options.objective is Objective.WEIGHTED else None),
        time_limit=options.time_limit_s,
        gap=options.gap,
        confidence=options.confidence or None,
    )


def spec_from_solution(
    solution: Solution, *, with_solver: bool = False
) -> specs.AllocationSolution:
    """The form of a solution: allocations by server, who is not served and why, and power.

    How it was found stands beside them where there is anything to say of that (the solution has
    a message), or where it is asked for.
    """
    unserved = {
        each.server: specs.UnservedSpec(reason=each.reason, detail=each.detail)
        for each in solution.unserved
    }
    return specs.AllocationSolution(
        allocations={
            name: spec_from_allocation(allocation)
            for name, allocation in sorted(solution.allocations.items())
        },
        unserved=unserved or None,
        power=_power(solution),
        solver=_solver(solution) if with_solver or solution.message else None,
    )


def _solver(solution: Solution) -> specs.SolverReport:
    return specs.SolverReport(
        asked=solution.asked or solution.solver,
        used=solution.solver,
        status=solution.status,
        value=_number(solution.objective),
        bound=_number(solution.bound),
        gap=_number(solution.gap),
        seconds=solution.seconds,
        message=solution.message,
    )


def _number(value: float | None) -> float | None:
    # A third party's solver may answer what is no number; JSON has none such.
    return value if value is not None and math.isfinite(value) else None


def _power(solution: Solution) -> specs.PowerPrediction | None:
    if not solution.power_w:
        return None
    return specs.PowerPrediction(
        total=solution.total_power_w, servers=dict(sorted(solution.power_w.items()))
    )
