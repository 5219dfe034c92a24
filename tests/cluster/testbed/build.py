"""Finds the programs of the testbed, or builds them with Go into a cache folder.

Runs on the standard library alone, so that it works before anything is installed.
Places, in this order: $KUBEBUILDER_ASSETS, $PATH, the cache. Programs that must be of one
version are taken from one place, all of them or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).resolve().parent
MODULE_FILES = ("go.mod", "go.sum")
BUILD_COMMAND = ("go", "install", "-ldflags=-s -w", "tool")
NAME_AS_BUILT = {"server": "etcd"}
"""Go names a program after its folder; etcd's folder is `server`."""
SECONDS_BETWEEN_SIGNS_OF_LIFE = 30.0


class MissingProgramsError(Exception):
    """The programs of the testbed cannot be had here; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Group:
    """Programs that must come from one place because their versions must agree."""

    names: tuple[str, ...]
    oldest: tuple[int, int] = (0, 0)
    """Oldest version that does, by the first program; what prints none is a build of our own."""


GROUPS = (
    Group(("etcd",), oldest=(3, 5)),
    Group(
        ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"), oldest=(1, 31)
    ),
    Group(("kwok",)),
    Group(("prometheus", "promtool"), oldest=(3, 0)),
)


def cache_folder() -> Path:
    """The folder that belongs to exactly these module files; it need not exist."""
    digest = hashlib.sha256(b"".join((MODULE / name).read_bytes() for name in MODULE_FILES))
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "controlloop" / "testbed" / digest.hexdigest()[:16]


def find_programs() -> dict[str, Path]:
    """Path of each program by name.

    Raises:
        MissingProgramsError: some cannot be found; names them and says how to build them.

    """
    found: dict[str, Path] = {}
    missing: list[str] = []
    for group in GROUPS:
        place = _first_place(group)
        if place is None:
            missing += group.names
        else:
            found |= place
    if missing:
        raise MissingProgramsError(
            f"programs of the testbed are missing: {', '.join(missing)}; "
            f"`python {Path(__file__).name}` in {MODULE} builds them with Go"
        )
    return found


def build() -> None:
    """Build every program into the cache; a second builder waits for the first.

    Raises:
        MissingProgramsError: Go is not installed or the build failed.

    """
    go = shutil.which("go")
    if go is None:
        raise MissingProgramsError(
            "Go is not installed, so the programs of the testbed cannot be built"
        )
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        if not _try_lock(lock.fileno()):
            _say("another build is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _all_in_cache():
            return
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
            _run_go(go, Path(scratch))
            # Each program appears whole or not at all, whatever interrupts this.
            for built in Path(scratch).iterdir():
                built.replace(folder / NAME_AS_BUILT.get(built.name, built.name))


def main() -> int:
    """Find or build; print where each program is. Exit code 1 where they cannot be had."""
    try:
        try:
            programs = find_programs()
        except MissingProgramsError as missing:
            _say(str(missing))
            build()
            programs = find_programs()
    except MissingProgramsError as error:
        _say(str(error))
        return 1
    for name, path in programs.items():
        print(f"{name}\t{path}")
    return 0


def _first_place(group: Group) -> dict[str, Path] | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    cache = cache_folder()
    for search in (assets, os.environ.get("PATH"), str(cache)):
        paths = {name: shutil.which(name, path=search) for name in group.names} if search else {}
        place = {name: Path(path) for name, path in paths.items() if path}
        if len(place) < len(group.names):
            continue
        if search == str(cache) or _new_enough(place, group):
            return place
    return None


def _new_enough(place: dict[str, Path], group: Group) -> bool:
    if group.oldest == (0, 0):
        return True
    path = place[group.names[0]]
    answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)\.(\d+)\.\d+", answer.stdout + answer.stderr)
    return version is None or (int(version[1]), int(version[2])) >= group.oldest


def _all_in_cache() -> bool:
    return all((cache_folder() / name).exists() for group in GROUPS for name in group.names)


def _run_go(go: str, scratch: Path) -> None:
    _say("building the programs of the testbed: about 7 minutes on two cores, once a machine")
    started = time.monotonic()
    environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(scratch)}
    with subprocess.Popen([go, *BUILD_COMMAND[1:]], cwd=MODULE, env=environment) as process:
        while True:
            try:
                code = process.wait(SECONDS_BETWEEN_SIGNS_OF_LIFE)
                break
            except subprocess.TimeoutExpired:
                done = len(list(scratch.iterdir()))
                _say(f"building: {done} programs done after {time.monotonic() - started:.0f} s")
    if code != 0:
        raise MissingProgramsError(f"`{' '.join(BUILD_COMMAND)}` in {MODULE} ended with {code}")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
