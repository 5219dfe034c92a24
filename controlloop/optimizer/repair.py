"""Makes a solver's answer one that takes nothing away from servers that run.

A solver hands out cards as if nobody had any. Here those who run keep theirs until they are
settled; a server grows only into cards that are free, or, where nothing else serves it, into
those of servers of lower priority. The solver's own choice for a server is tried first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from controlloop.api.candidates import Candidates
from controlloop.api.system import OptimizerOptions, SaturationPolicy
from controlloop.optimizer.answer import Choice
from controlloop.optimizer.ledger import Holding, Ledger
from controlloop.optimizer.saturation import Ticket, best_effort


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The candidates as plain lists, by server and by row."""

    names: tuple[str, ...]
    priority: list[int]
    start: list[int]
    by_value: list[int]
    value: list[float]
    server: list[int]
    replicas: list[int]
    cards_per_replica: list[int]
    card_type: list[str]

    @classmethod
    def of(cls, candidates: Candidates) -> _Table:
        types = (*candidates.types, "")
        return cls(
            names=candidates.servers,
            priority=candidates.priority.tolist(),
            start=candidates.start.tolist(),
            by_value=candidates.rows_by_value().tolist(),
            value=candidates.value.tolist(),
            server=candidates.server.tolist(),
            replicas=candidates.replicas.tolist(),
            cards_per_replica=candidates.cards_per_replica.tolist(),
            card_type=[types[each] for each in candidates.card_type.tolist()],
        )

    def rows(self, server: int) -> list[int]:
        """The server's rows, least value first."""
        return self.by_value[self.start[server] : self.start[server + 1]]

    def cards(self, row: int) -> int:
        return self.replicas[row] * self.cards_per_replica[row]

    def regret(self, server: int) -> float:
        rows = self.rows(server)
        return math.inf if len(rows) < 2 else self.value[rows[1]] - self.value[rows[0]]


class Repair:
    """Settles servers one by one over a ledger.

    Args:
        candidates: what there is to choose from.
        guide: what a solver chose; part of a candidate counts as no choice.
        ledger: cards, with what runs held by those who run on it. It is used up.
        options: the saturation policy and when it comes.

    """

    def __init__(
        self, candidates: Candidates, guide: Choice, ledger: Ledger, options: OptimizerOptions
    ) -> None:
        self._table = _Table.of(candidates)
        self._guide = guide
        self._ledger = ledger
        self._options = options
        self._choice = Choice.nothing(len(candidates.servers))

    def run(self) -> Choice:
        """What each server gets whole; the others have what the ledger's holdings say."""
        table = self._table
        servers = [at for at in range(len(table.names)) if table.rows(at)]
        for server in servers:
            self._let_go(server)
        servers.sort(key=self._rank)
        delayed = self._options.delayed_best_effort
        out: list[int] = []
        for _, level in groupby(servers, key=lambda server: table.priority[server]):
            waiting = self._place(list(level), reclaim=False)
            waiting = self._place(waiting, reclaim=True)
            if not delayed:
                self._best_effort(waiting, reclaim=True)
            out += waiting
        if delayed:
            self._best_effort(out, reclaim=False)
        return self._choice

    def _rank(self, server: int) -> tuple[int, float, float, int]:
        table = self._table
        first = table.rows(server)[0]
        return table.priority[server], -table.regret(server), -table.value[first], server

    def _preferred(self, server: int) -> list[int]:
        """The server's rows: what the solver gave it whole, then the least value."""
        rows = self._table.rows(server)
        chosen = int(self._guide.row[server])
        whole = chosen >= 0 and self._guide.replicas[server] == self._table.replicas[chosen]
        return [chosen, *(row for row in rows if row != chosen)] if whole else rows

    def _let_go(self, server: int) -> None:
        """What a smaller load needs no more is free for everybody at once."""
        table = self._table
        holding = self._ledger.holdings.get(table.names[server])
        row = self._preferred(server)[0]
        if holding is None:
            return
        if table.card_type[row] == holding.card_type or not table.replicas[row]:
            self._ledger.trim(holding.server, table.cards(row))

    def _place(self, servers: list[int], *, reclaim: bool) -> list[int]:
        """Settle who can be served whole; who is left, in the same order."""
        while servers:
            left = [server for server in servers if not self._settle(server, reclaim=reclaim)]
            # Who moves away leaves cards behind, which may be what another one waits for.
            if len(left) == len(servers):
                break
            servers = left
        return servers

    def _settle(self, server: int, *, reclaim: bool) -> bool:
        table, ledger = self._table, self._ledger
        name, priority = table.names[server], table.priority[server]
        for row in self._preferred(server):
            card_type, cards = table.card_type[row], table.cards(row)
            short = ledger.shortfall(name, card_type, cards)
            if short <= 0 or (reclaim and short <= ledger.reclaimable(card_type, priority)):
                ledger.settle(name, priority, card_type, cards)
                self._choice.row[server] = row
                self._choice.replicas[server] = table.replicas[row]
                return True
        return False

    def _best_effort(self, servers: Sequence[int], *, reclaim: bool) -> None:
        if self._options.saturation_policy is SaturationPolicy.NONE:
            return
        tickets = [ticket for server in servers if (ticket := self._ticket(server)) is not None]
        pool = _Growth(self._table, self._ledger, reclaim=reclaim)
        best_effort(self._options.saturation_policy, tickets, pool)

    def _ticket(self, server: int) -> Ticket | None:
        """The server's claim; one that runs holds on to its accelerator, if that is a candidate."""
        table = self._table
        rows = table.rows(server)
        ticket = Ticket(table.priority[server], rows, [table.replicas[row] for row in rows])
        holding = self._ledger.holdings.get(table.names[server])
        if holding is None:
            return ticket
        if holding.row < 0:
            return None
        ticket.at, ticket.replicas = rows.index(holding.row), holding.replicas
        return ticket


class _Growth:
    """The cards that servers in need may still take."""

    def __init__(self, table: _Table, ledger: Ledger, *, reclaim: bool) -> None:
        self._table = table
        self._ledger = ledger
        self._reclaim = reclaim

    def room(self, row: int) -> int:
        """Further replicas of `row` that fit."""
        table, card_type = self._table, self._table.card_type[row]
        cards = self._ledger.free(card_type)
        if self._reclaim:
            priority = table.priority[table.server[row]]
            cards += self._ledger.reclaimable(card_type, priority)
        return max(cards, 0) // table.cards_per_replica[row]

    def take(self, row: int, replicas: int) -> None:
        """Add so many replicas to what the row's server has."""
        table = self._table
        server = table.server[row]
        name = table.names[server]
        new = Holding(
            server=name,
            priority=table.priority[server],
            card_type=table.card_type[row],
            cards_per_replica=table.cards_per_replica[row],
            replicas=0,
            before=0,
            row=row,
        )
        self._ledger.grow(self._ledger.holdings.get(name, new), replicas)
