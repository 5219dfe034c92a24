"""Builds where the static part of the system comes from."""

from __future__ import annotations

from pathlib import Path

from controlloop.composition.configuration import data_folder
from controlloop.composition.parts import known_queue_model
from controlloop.kube.connection import Connection
from controlloop.kube.custom import CustomResources
from controlloop.kube.informers import Informers
from controlloop.protocols import Source
from controlloop.runtime_controller.source import CustomResourceSource
from controlloop.settings.tree import Settings
from controlloop.source import FolderSource


def build_source(
    settings: Settings, config: Path, connection: Connection, informers: Informers | None = None
) -> Source:
    """The data of files or of custom resources."""
    data, queue_model = settings.data, known_queue_model(settings.optimizer.queue_model)
    if data.source == "crds":
        store = CustomResources(connection, (data.namespace,), lister=informers)
        timeout_s = settings.cluster.request_timeout_s
        return CustomResourceSource(store, data.optimizer, queue_model, timeout_s)
    folder, dynamic = data_folder(settings, config), data.mode == "dynamic"
    return FolderSource(folder, dynamic=dynamic, queue_model=queue_model)
