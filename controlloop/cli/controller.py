"""`controlloop controller`: the optimizer served from custom resources."""

from __future__ import annotations

from typing import Annotated

import typer

from controlloop.cli.options import ContextOption, KubeconfigOption


def controller(
    *,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Namespace to serve; repeatable; default: all.")
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    once: Annotated[bool, typer.Option("--once", help="Reconcile everything once, exit.")] = False,
    lease: Annotated[
        bool, typer.Option(help="Take the Lease before writing, so that one process writes.")
    ] = True,
    lease_namespace: Annotated[str, typer.Option(help="Namespace of the Lease.")] = "inferno",
    debounce: Annotated[
        float, typer.Option(min=0, help="Quiet seconds after a change before it is acted on.")
    ] = 0.5,
    liveness_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /healthz; 0 is none.")
    ] = 8080,
) -> None:
    """Optimize what custom resources describe; answers go to their statuses, never their specs.

    Examples:
      controlloop crds | kubectl apply -f -

      controlloop controller --namespace inference

      controlloop controller --once --no-lease && kubectl get inferno -A
    """
    from controlloop.composition.controller import Controller, ControllerOptions
    from controlloop.kube.lease import LeaseOptions
    from controlloop.runtime_controller.operator import OperatorOptions
    from controlloop.settings.tree import LogSettings
    from controlloop.telemetry import set_up_logs

    set_up_logs(LogSettings())
    liveness = f"http://0.0.0.0:{liveness_port}/healthz" if liveness_port and not once else ""
    leased = LeaseOptions(namespace=lease_namespace, name="controlloop-controller")
    built = Controller(
        ControllerOptions(
            kubeconfig=kubeconfig,
            context=context,
            lease=leased if lease else None,
            operator=OperatorOptions(
                namespaces=tuple(namespace or ()), debounce_s=debounce, liveness=liveness
            ),
        )
    )
    if not once:
        built.run()
        return
    done = built.run_once()
    typer.echo(f"{done.optimizers} optimizers, {done.written} statuses written")
    for failure in done.failures:
        typer.echo(failure, err=True)
    if done.failures:
        raise typer.Exit(1)
