"""@champion goes back the way it came, however often, and guesses nothing."""

from __future__ import annotations

import pytest

from langevin.errors import RegistryError
from langevin.tracking.registry import Registry
from langevin.tracking.store import client
from langevin.tracking.succession import Succession

NAME = "digits"


@pytest.fixture
def registry(uri: str) -> Registry:
    """Four versions, and no alias."""
    registry = Registry(uri)
    for sha256 in "abcd":
        registry.register(NAME, f"/runs/{sha256}", None, {"langevin.checkpoint_sha256": sha256 * 64})
    return registry


@pytest.fixture
def line(registry: Registry) -> Succession:
    return Succession(registry, NAME)


def held(registry: Registry) -> int | None:
    return registry.alias(NAME, "champion")


def test_back_and_further_back_to_the_first(registry: Registry, line: Succession) -> None:
    line.promote(1, None, "x")
    line.promote(2, 1, "x")
    line.promote(3, 2, "y")
    assert (line.roll_back().version, held(registry)) == (3, 2)
    line.promote(4, 2, "x")  # what was taken back is no part of the way any more
    assert (line.roll_back().version, held(registry)) == (4, 2)
    assert (line.roll_back().version, held(registry)) == (2, 1)
    line.promote(3, 1, "z")
    assert (line.roll_back().version, held(registry)) == (3, 1)
    with pytest.raises(RegistryError, match=r"models:/digits/1': is the first champion: none held the alias before it"):
        line.roll_back()
    assert held(registry) == 1
    assert [(move.version, move.before, move.undone) for move in line.moves()] == [
        (1, None, None), (2, 1, None), (3, 2, None), (2, 3, 3), (4, 2, None), (2, 4, 5), (1, 2, 2), (3, 1, None), (1, 3, 8),
    ]  # fmt: skip
    assert [move.number for move in line.moves()] == list(range(1, 10))
    back = line.rolled_back(3, "y")
    assert back is not None
    assert (back.version, back.before) == (2, 3)
    assert line.rolled_back(3, "x") is None
    assert line.rolled_back(1, "x") is None


def test_a_version_may_come_back_into_its_place(registry: Registry, line: Succession) -> None:
    """1, 2, 1 again: the way back is 2, then 1, and not in circles."""
    line.promote(1, None, "x")
    line.promote(2, 1, "x")
    line.promote(1, 2, "y")
    assert [line.roll_back().before for _ in range(2)] == [2, 1]
    with pytest.raises(RegistryError, match="first champion"):
        line.roll_back()


def test_what_the_log_does_not_know_is_not_guessed(registry: Registry, line: Succession) -> None:
    with pytest.raises(RegistryError, match=r"models:/digits@champion': there is no champion to go back from"):
        line.roll_back()
    registry.set_alias(NAME, "champion", 1)  # as a registry of before there was a log
    with pytest.raises(RegistryError, match=r"models:/digits/1': was not made @champion by a promotion.*set the alias"):
        line.roll_back()
    line.promote(2, 1, "x")
    assert (line.roll_back().before, held(registry)) == (1, 1)
    line.promote(2, 1, "x")
    registry.set_alias(NAME, "champion", 4)  # by hand
    with pytest.raises(RegistryError, match="models:/digits/4': was not made @champion by a promotion"):
        line.roll_back()
    line.promote(3, 4, "x")
    assert (line.roll_back().before, held(registry)) == (4, 4)
    with pytest.raises(RegistryError, match="models:/digits/4': was not made @champion"):
        line.roll_back()
    with pytest.raises(RegistryError, match="is not a registered model; did you mean digits"):
        Succession(registry, "digit").roll_back()


def test_a_version_that_was_deleted_is_not_gone_back_to(registry: Registry, line: Succession) -> None:
    line.promote(1, None, "x")
    line.promote(2, 1, "x")
    client(registry.uri).delete_model_version(NAME, "1")
    with pytest.raises(
        RegistryError, match=r"models:/digits/1': names no version of this model; its versions are 2 \(@"
    ):
        line.roll_back()
    assert (held(registry), len(line.moves())) == (2, 2)


def test_a_move_that_is_cut_off_is_finished_and_written_once(
    registry: Registry, line: Succession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the log and the alias."""

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    def cut_off(move: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "set_alias", cut)
            with pytest.raises(KeyboardInterrupt):
                move()  # type: ignore[operator]

    line.promote(1, None, "x")
    cut_off(lambda: line.promote(2, 1, "x"))
    assert held(registry) == 1
    line.promote(2, 1, "x")
    cut_off(line.roll_back)
    assert held(registry) == 2
    assert (line.roll_back().version, held(registry)) == (2, 1)
    assert [(move.version, move.undone) for move in line.moves()] == [(1, None), (2, None), (1, 2)]
