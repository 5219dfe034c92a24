"""System data from a folder of files, from one file or from standard input; documents out."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic.alias_generators import to_snake

from controlloop.api.json_text import parse_json
from controlloop.api.reading import UnknownKeys, read, read_json
from controlloop.api.spec_types import Form
from controlloop.api.specs import (
    AcceleratorData,
    CapacityData,
    ModelData,
    OptimizerData,
    ServerData,
    ServiceClassData,
    SystemData,
)
from controlloop.errors import InputError, Problem

STDIN: Final = "-"
MOST_BYTES: Final = 1 << 28
ACCELERATOR_FILE: Final = "accelerator-data.json"
CAPACITY_FILE: Final = "capacity-data.json"
MODEL_FILE: Final = "model-data.json"
SERVICE_CLASS_FILE: Final = "serviceclass-data.json"
SERVER_FILE: Final = "server-data.json"
OPTIMIZER_FILE: Final = "optimizer-data.json"

# File name -> form, and its key within the system's form.
PARTS: Final[Mapping[str, tuple[type[Form], str]]] = MappingProxyType(
    {
        ACCELERATOR_FILE: (AcceleratorData, "acceleratorData"),
        CAPACITY_FILE: (CapacityData, "capacityData"),
        MODEL_FILE: (ModelData, "modelData"),
        SERVICE_CLASS_FILE: (ServiceClassData, "serviceClassData"),
        SERVER_FILE: (ServerData, "serverData"),
        OPTIMIZER_FILE: (OptimizerData, "optimizerData"),
    }
)


def read_folder(
    folder: Path,
    *,
    optional: Collection[str] = (OPTIMIZER_FILE,),
    unknown: UnknownKeys = UnknownKeys.REJECT,
) -> SystemData:
    """The system whose parts lie in `folder`, one file a part.

    Args:
        folder: where the files are; others beside them are not looked at.
        optional: names of files that may be absent; those parts take their defaults.
        unknown: what becomes of keys that a form does not have.

    Raises:
        InputError: every problem of every file, each with its file as source.

    """
    if not is_folder(folder):
        raise InputError([Problem("", "is not a folder")], str(folder))
    parts: dict[str, Form] = {}
    problems: list[Problem] = []
    for name, (form, key) in PARTS.items():
        path = folder / name
        if name in optional and is_absent(path):
            continue
        try:
            parts[key] = read_json(form, read_bytes(str(path)), unknown=unknown, source=str(path))
        except InputError as error:
            problems += [
                Problem(each.path, each.rule, each.value, source=str(path))
                for each in error.problems
            ]
    if problems:
        raise InputError(problems)
    return SystemData.model_validate({"system": parts})


def read_file(path: Path, *, unknown: UnknownKeys = UnknownKeys.REJECT) -> SystemData:
    """The system in one file, in its documented wrapper.

    Raises:
        InputError: the file cannot be read, or every problem of it.

    """
    return read_json(SystemData, read_bytes(str(path)), unknown=unknown, source=str(path))


def read_system(
    where: str,
    *,
    optional: Collection[str] = (OPTIMIZER_FILE,),
    unknown: UnknownKeys = UnknownKeys.REJECT,
) -> SystemData:
    """The system at `where`: a folder, one file, or standard input for "-".

    Raises:
        InputError: nothing can be read there, or every problem of what is there.

    """
    if where == STDIN:
        document = parse_json(read_bytes(STDIN), "standard input")
        return read(SystemData, document, unknown=unknown, source="standard input")
    path = Path(where)
    if is_folder(path):
        return read_folder(path, optional=optional, unknown=unknown)
    return read_file(path, unknown=unknown)


def document_text(form: Form) -> str:
    """`form` as JSON text in the documented spelling, indented, ending in a newline."""
    return json.dumps(form.document(), indent=2, ensure_ascii=False) + "\n"


def write_document(form: Form, path: Path) -> None:
    """Write `form` to `path`; who reads there meanwhile sees the old text or the new, whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(document_text(form), encoding="utf-8")
    partial.replace(path)


def write_folder(data: SystemData, folder: Path) -> None:
    """Write the parts of a system to `folder`, one file a part; it is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, key) in PARTS.items():
        write_document(getattr(data.system, to_snake(key)), folder / name)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False where that cannot be told."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_absent(path: Path) -> bool:
    """Whether nothing is there; False where that cannot be told: reading it says why."""
    try:
        return not path.exists()
    except OSError:
        return False


def read_bytes(where: str) -> bytes:
    """The bytes of a file, or of standard input for "-".

    Raises:
        InputError: they cannot be read, or there are more of them than any system has.

    """
    source = "standard input" if where == STDIN else where
    try:
        if where != STDIN:
            with Path(where).open("rb") as stream:
                text = stream.read(MOST_BYTES + 1)
        elif sys.stdin is None:
            raise InputError([Problem("", "is closed")], source)
        else:
            text = sys.stdin.buffer.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError([Problem("", "does not exist")], source) from None
    except OSError as error:
        raise InputError([Problem("", f"cannot be read: {error.strerror}")], source) from error
    if len(text) > MOST_BYTES:
        raise InputError([Problem("", f"must not be longer than {MOST_BYTES} bytes")], source)
    return text
