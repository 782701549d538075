"""Where stages start from, and what is written when: known before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TINY_WEIGHTS

import vcm.cli
from vcm.errors import ConfigError, ModelNotFoundError
from vcm.training.config import load_config
from vcm.training.plan import Plan, resolve
from vcm.training.run import load_recipe

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"


def plan_of(recipe: Path, **changes: Any) -> Plan:
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **changes}))
    return resolve(load_config(recipe))


def sources(plan: Plan, name: str) -> dict[str, str]:
    stage = next(s for s in plan.stages if s.config.name == name)
    return {part: "new" if source is None else source.name for part, source in stage.parts.items()}


def test_each_stage_starts_from_the_last_of_its_kind(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    joint = {**stages[2], "name": "joint", "kind": "joint"}
    again = {**stages[2], "name": "again"}
    plan = plan_of(recipe, stages=[*stages, joint, again])
    assert set(sources(plan, "twin").values()) == {"new"}
    assert sources(plan, "bottleneck") == {
        "analysis": "stage twin", "base": "new", "detect": "stage twin", "classify": "stage twin"
    }  # fmt: skip
    assert sources(plan, "joint")["base"] == "stage bottleneck"
    assert sources(plan, "joint")["synthesis"] == "stage picture"
    assert set(sources(plan, "again").values()) == {"stage joint"}
    assert [s.base and s.base.name for s in plan.stages] == [None, None, "stage bottleneck", None, "stage joint"]
    assert [len(s.ships) for s in plan.stages] == [0, 0, 1, 1, 1]
    assert plan.codec == recipe.parent / "out" / "t.safetensors"


def test_weights_that_ship_stand_in_for_stages_that_are_not_there(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    heads = {**stages[0], "name": "heads", "kind": "heads"}
    heads.pop("frozen_blocks")
    plan = plan_of(recipe, stages=[stages[2], stages[0], stages[1], heads], **{"from": str(TINY_WEIGHTS)})
    shipped = f"weights of {TINY_WEIGHTS}"
    assert {"new"}.isdisjoint(sources(plan, "picture").values())
    assert set(sources(plan, "twin").values()) == {shipped}
    # The base is the model's, the rest the twin's that was trained in between.
    assert sources(plan, "bottleneck")["base"] == shipped
    assert sources(plan, "bottleneck")["detect"] == "stage twin"
    assert set(sources(plan, "heads").values()) == {"stage bottleneck"}
    assert [bool(s.thawed) for s in plan.stages] == [True, True, False, False]
    with pytest.raises(ModelNotFoundError):
        plan_of(recipe, **{"from": "no-such-model"})


def test_weights_that_do_not_fit_are_refused_before_anything_runs(recipe: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())["stages"]
    odd = {**stages[0], "name": "odd", "start": "picture"}
    with pytest.raises(ConfigError, match="that odd starts from do not fit: found analysis, classify, detect"):
        plan_of(recipe, stages=[*stages, odd])
    with pytest.raises(ConfigError, match="comes after a bottleneck"):
        plan_of(recipe, stages=[stages[2]])


@pytest.mark.parametrize("name", ["vcm-s-cpu", "vcm-s-gpu", "vcm-s-marathon"])
def test_shipped_recipes_have_a_plan(name: str) -> None:
    plan = resolve(load_recipe(RECIPES / f"{name}.yaml"))
    assert plan.codec is not None
    assert plan.codec.name == "vcm-s.safetensors"


def test_the_command_shows_the_plan_and_trains_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vcm.cli.run(["train", str(recipe), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "bottleneck (bottleneck): 4 steps of 2 on pics, 64 px" in said
    assert "from stage twin: analysis, detect, classify" in said
    assert "writes" in said
    assert vcm.cli.run(["train", str(recipe), "--dry-run", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [s["name"] for s in stages] == ["twin", "bottleneck", "picture"]
    assert stages[2]["weights"]["base (frozen)"] == "stage bottleneck"
    assert not (recipe.parent / "out").exists()
