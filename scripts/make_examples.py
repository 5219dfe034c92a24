"""Writes docs/examples.md and its pictures; the commands of the page are run for it.

With --check it writes nothing and exits 1 if the page is not what the commands say now.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from controlloop.cli.app import app

ROOT = Path(__file__).resolve().parent.parent
LOADS = (
    "--what-if load.chat-8b=x2 --what-if load.search-8b=x0.5 --what-if load.trial-8b=x3"
    " --what-if load.support-24b=x1.5 --what-if load.code-32b=x1.5"
    " --what-if load.assistant-70b=x0.5"
)
FEWER = "--what-if capacity.L4=8 --what-if capacity.L40S=20 --what-if capacity.H100=2"
SHORT = (
    "--scale 3 --what-if capacity.L4=4 --what-if capacity.L40S=24 --what-if capacity.A100=20"
    " --what-if capacity.H100=3"
)
REPLICA = "config/sample/replica.json"
POLICIES = ("None", "PriorityExhaustive", "PriorityRoundRobin", "RoundRobin")


class Maker:
    """Runs commands in a folder that stands for `out/`, with the pictures in another."""

    def __init__(self, out: Path, images: Path) -> None:
        self._out = out
        self._images = images
        self._runner = CliRunner()

    def run(self, command: str) -> str:
        """What `controlloop` prints.

        Raises:
            RuntimeError: it fails.

        """
        arguments = [
            each.replace("out/", f"{self._out}/").replace("docs/images/", f"{self._images}/")
            for each in shlex.split(command)
        ]
        result = self._runner.invoke(app, arguments)
        if result.exit_code:
            raise RuntimeError(f"controlloop {command}: {result.output} {result.exception}")
        return result.stdout

    def shown(self, command: str, picture: str = "", title: str = "") -> Iterator[str]:
        """The command, its output and its picture as lines of the page."""
        image = f" --plot docs/images/{picture}.png" if picture else ""
        output = self.run(command + image)
        # How long it took is another time another time.
        output = re.sub(r", \d+\.\d+ s$", "", output, flags=re.MULTILINE)
        lines = [line.rstrip() for line in output.splitlines()]
        text = re.sub(r"\n{2,}", "\n", "\n".join(lines).strip("\n"))
        yield from ("```console", f"$ controlloop {_folded(command)}", text, "```", "")
        if picture:
            yield from (f"![{title}](images/{picture}.png)", "")


def _folded(command: str) -> str:
    """A long command on several lines, as a shell takes it."""
    return command.replace(" --what-if ", " \\\n    --what-if ")


def page(maker: Maker) -> str:
    """The page."""
    return "\n".join([*_published(maker), *_short(maker), *_questions(maker)])


def _published(maker: Maker) -> Iterator[str]:
    yield from (
        "# Examples",
        "",
        "Made by `make docs` from `scripts/make_examples.py`, which runs the commands; do not",
        "edit. With `--plot FILE.png` a command draws the picture below it: cards and cost of each",
        "server, and its latencies as a share of their targets. `--save` writes the system with",
        "the answer running, which is where the next question starts.",
        "",
        "The system is `config/sample`: nine servers of four models in three classes on four types",
        "of cards. Five servers run something already, four are new.",
        "",
        "## Unlimited",
        "",
        "As if there were cards without end, every server gets its candidate of least value. Where",
        "something runs, another accelerator has to make up for the switch.",
        "",
    )
    yield from maker.shown(
        "optimize config/sample --set unlimited=true --save out/unlimited.json",
        "example-unlimited",
        "Every server served, at the least cost",
    )
    yield from (
        "## The load changes, unlimited",
        "",
        "Some loads grow, others fall. The crosses show what would become of the latencies had",
        "nothing changed.",
        "",
    )
    yield from maker.shown(
        f"optimize out/unlimited.json --set unlimited=true {LOADS}",
        "example-unlimited-load",
        "Replicas follow the load",
    )
    yield from (
        "## Limited",
        "",
        "With fewer cards two servers get their second choice; all are still served whole.",
        "",
    )
    yield from maker.shown(
        f"optimize config/sample {FEWER} --save out/limited.json",
        "example-limited",
        "Some servers move to what is there",
    )
    yield from (
        "## The load changes, limited",
        "",
        "The same change of load now meets the limits. One server gets less than it needs, as much",
        "as is left: the sample's saturation policy is `PriorityExhaustive`.",
        "",
    )
    yield from maker.shown(
        f"optimize out/limited.json {LOADS}",
        "example-limited-load",
        "One server is short",
    )


def _short(maker: Maker) -> Iterator[str]:
    yield from (
        "## Too few cards, under each saturation policy",
        "",
        "Three times the load on few cards: who does not fit whole gets what the saturation policy",
        "says, by priority group or, with `delayedBestEffort`, from what all groups leave. The",
        "pictures are of the latter.",
        "",
        "```console",
        _folded(f"$ controlloop optimize config/sample --set saturationPolicy=POLICY {SHORT}"),
        "```",
        "",
        "| policy | best effort | served whole | in part | nothing | cents/h |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for policy in POLICIES:
        for delayed in ("false", "true") if policy != "None" else ("false",):
            yield _row(maker, policy, delayed)
    yield ""
    for policy in POLICIES:
        flags = f"--set saturationPolicy={policy} --set delayedBestEffort=true"
        picture = f"example-short-{policy.lower()}"
        maker.run(f"optimize config/sample {flags} {SHORT} --plot docs/images/{picture}.png")
        yield from (f"`{policy}`:", "", f"![{policy}](images/{picture}.png)", "")


def _row(maker: Maker, policy: str, delayed: str) -> str:
    flags = f"--set saturationPolicy={policy} --set delayedBestEffort={delayed}"
    answer = json.loads(maker.run(f"optimize config/sample {flags} {SHORT} --format json"))["after"]
    found, short = answer["allocations"], answer.get("unserved", {})
    partly = [
        f"{name} ({found[name]['numReplicas']} of {found[name]['accelerator']})"
        for name in sorted(short)
        if name in found
    ]
    nothing = sorted(set(short) - set(found))
    cost = sum(each["cost"] for each in found.values())
    when = "-" if policy == "None" else "after all" if delayed == "true" else "by priority"
    cells = (
        f"`{policy}`",
        when,
        str(len(found) - len(partly)),
        ", ".join(partly) or "-",
        ", ".join(nothing) or "-",
        f"{cost:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _questions(maker: Maker) -> Iterator[str]:
    yield from (
        "## What if?",
        "",
        "Half as much load again, and eight more A100:",
        "",
    )
    yield from maker.shown("optimize config/sample --scale 1.5 --what-if capacity.A100=+8")
    yield from (
        "## Why?",
        "",
        "Why is one server short in the limited system under its new load?",
        "",
    )
    yield from maker.shown(f"explain analyst-70b out/limited.json {LOADS}")
    yield from (
        "## Power instead of cost",
        "",
        "`objective=power` makes the predicted power least; `objective=weighted` adds the price of",
        "energy to the cost.",
        "",
        "| objective | cents/h | W |",
        "| --- | --- | --- |",
    )
    for name, flags in (
        ("cost", "--set objective=cost"),
        ("power", "--set objective=power"),
        ("weighted, 40 cents/kWh", "--set objective=weighted --set energyPrice=40"),
        ("weighted, 1000 cents/kWh", "--set objective=weighted --set energyPrice=1000"),
    ):
        answer = json.loads(maker.run(f"optimize config/sample {flags} --format json"))
        cost = sum(each["cost"] for each in answer["allocations"].values())
        yield f"| {name} | {cost:.0f} | {answer['power']['total']:.0f} |"
    yield from (
        "",
        "## One replica",
        "",
        "`controlloop queue plot` draws what one replica can do: here `llama-3.1-8b` on an A100",
        "with the targets of the class Premium.",
        "",
        "```console",
        f"$ cat {REPLICA}",
        *(ROOT / REPLICA).read_text().splitlines(),
        f"$ controlloop queue plot {REPLICA} -o replica.png",
        "```",
        "",
        "![One replica](images/example-replica.png)",
        "",
        "## Systems of any size",
        "",
        "`controlloop generate` makes systems up, equal for equal seeds: `--scarcity` is the share",
        "of the cards that the cheapest allocations take.",
        "",
    )
    made = "generate --servers 200 --accelerators 12 --seed 7 --scarcity 1.2 -o out/made.json"
    maker.run(made)
    answer = json.loads(maker.run("optimize out/made.json --format json"))
    served = len(set(answer["allocations"]) - set(answer.get("unserved", {})))
    yield from (
        "```console",
        f"$ controlloop {made}",
        "$ controlloop optimize out/made.json",
        "...",
        f"{served} of 200 servers served whole",
        "```",
        "",
    )


def draw_replica(maker: Maker) -> None:
    """The picture of one replica."""
    maker.run(f"queue plot {REPLICA} -o docs/images/example-replica.png")


def make(images: Path) -> str:
    """The page's text; its pictures are written to `images`."""
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            maker = Maker(Path(folder), images)
            draw_replica(maker)
            return page(maker)
    finally:
        os.chdir(here)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description="Writes docs/examples.md and its pictures.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    target = ROOT / "docs" / "examples.md"
    if check:
        with tempfile.TemporaryDirectory() as folder:
            same = target.exists() and target.read_text() == make(Path(folder))
        sys.stdout.write("" if same else "differs: docs/examples.md\n")
        return 0 if same else 1
    target.write_text(make(ROOT / "docs" / "images"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
