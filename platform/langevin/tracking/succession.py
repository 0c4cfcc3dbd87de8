"""Who held @champion after whom: a log in the registry itself, one tag of the registered model a move.

An alias has no memory. The log has: a move says which version took the place of which, when, and by what spec, so that going
back follows what was and guesses nothing. A place that was changed by other means is not in it, and there it ends.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from langevin.errors import RegistryError
from langevin.tracking.registry import Registry

CHAMPION = "champion"
_TAG = "langevin.champion."


@dataclass(frozen=True)
class Move:
    """version took the place of before (None: of nobody). time: UTC, ISO 8601; spec: the hash of what it was measured by;
    undone: of a rollback, the number of the promotion that it takes back.
    """

    number: int
    version: int
    before: int | None
    time: str
    spec: str
    undone: int | None = None


class Succession:
    """The moves of one registered model's @champion. Every method raises TrackingError where MLflow cannot be reached."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name = registry, name

    def moves(self) -> list[Move]:
        """All of them, the oldest first."""
        tags = self._registry.model_tags(self._name)
        return [
            Move(int(tag.removeprefix(_TAG)), **json.loads(value))
            for tag, value in sorted(tags.items())
            if tag.startswith(_TAG)
        ]

    def promote(self, version: int, before: int | None, spec: str) -> None:
        """Gives @champion to a version, in place of the one that holds it."""
        moves = self.moves()
        last = moves[-1] if moves else None
        # the log first: a move that was cut off before the alias moved is not written a second time
        if last is None or (last.version, last.before, last.undone) != (version, before, None):
            self._record(moves, version, before, spec)
        self._registry.set_alias(self._name, CHAMPION, version)

    def roll_back(self) -> Move:
        """Gives @champion back to the version that held it before, and returns the promotion that is undone by that.

        RegistryError: there is none, the log does not say who held it before, or that version is no longer there.
        """
        held, moves = self._registry.alias(self._name, CHAMPION), self.moves()
        if held is None:
            raise self._refusal(None, "there is no champion to go back from", "run langevin promote")
        if moves and moves[-1].undone is not None and moves[-1].before == held:  # cut off before the alias moved
            undone = next(move for move in moves if move.number == moves[-1].undone)
        else:
            undone = self._last_standing(moves, held)
        if undone.before is None:
            raise self._refusal(held, "is the first champion: none held the alias before it", None)
        self._registry.resolve(f"models:/{self._name}/{undone.before}")
        if moves[-1].undone != undone.number:
            self._record(moves, undone.before, held, undone.spec, undone.number)
        self._registry.set_alias(self._name, CHAMPION, undone.before)
        return undone

    def rolled_back(self, version: int, spec: str) -> Move | None:
        """The rollback that took @champion from a version that had won it by this spec."""
        found = [move for move in self.moves() if move.undone and (move.before, move.spec) == (version, spec)]
        return found[-1] if found else None

    def _last_standing(self, moves: list[Move], held: int) -> Move:
        undone = {move.undone for move in moves}
        standing = [move for move in moves if move.undone is None and move.number not in undone]
        if not standing or standing[-1].version != held:
            raise self._refusal(held, "was not made @champion by a promotion: what held it before is not known",
                                "set the alias in MLflow")  # fmt: skip
        return standing[-1]

    def _record(
        self, moves: list[Move], version: int, before: int | None, spec: str, undone: int | None = None
    ) -> None:
        number = moves[-1].number + 1 if moves else 1
        said = asdict(Move(number, version, before, datetime.now(UTC).isoformat(timespec="seconds"), spec, undone))
        del said["number"]
        self._registry.tag_model(self._name, {f"{_TAG}{number:06d}": json.dumps(said)})

    def _refusal(self, held: int | None, problem: str, mend: str | None) -> RegistryError:
        address = f"models:/{self._name}@{CHAMPION}" if held is None else f"models:/{self._name}/{held}"
        return RegistryError(problem, field="model", value=address, mend=mend)
