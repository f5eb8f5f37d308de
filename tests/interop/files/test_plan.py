"""`sutor plan`: Megatron-Core's groups, and placements of experts."""

import json
import pathlib

import numpy as np
import pytest

GOLDEN_FOLDER = pathlib.Path(__file__).parents[2] / "golden"
GOLDEN = json.loads((GOLDEN_FOLDER / "golden_groups.json").read_text())


def plan(program, *arguments, code=0):
    return program.run("plan", "--groups", *arguments, code=code).output


@pytest.mark.parametrize("name", GOLDEN)
def test_groups_are_megatrons(program, name):
    args = dict(GOLDEN[name]["args"])
    options = ["--world", args.pop("ws")]
    for key, value in args.items():
        options += [f"--{key}", value]
    found = json.loads(plan(program, *options, "--json"))
    assert found["groups"] == GOLDEN[name]["groups"]
    assert found["sizes"] == GOLDEN[name]["sizes"]
    one = json.loads(plan(program, *options, "--json", "--rank", 3))
    for group, ranks in GOLDEN[name]["groups"].items():
        assert one["groups"][group] == [members for members in ranks if 3 in members]


def test_layouts_that_do_not_fit_are_refused_with_the_arithmetic(program):
    output = plan(program, "--world", 16, "--tp", 2, "--pp", 2, "--cp", 3, code=2)
    assert "tp(2) * pp(2) * cp(3) = 12 does not divide world size 16" in output
    assert "no rank 16" in plan(program, "--world", 16, "--rank", 16, code=2)
    assert "--groups" in program.run("plan", "--world", 4, code=2).output


def critical_path(layers, rank_of, trained, ep):
    """Slowest rank over mean, in numpy, from a placement and the selections of each expert."""
    slowest = mean = 0
    for layer, counts in layers.items():
        cost = counts * np.where(np.isin(np.arange(len(counts)), trained.get(layer, [])), 3, 2)
        ranks = np.bincount(rank_of[layer], weights=cost, minlength=ep)
        slowest, mean = slowest + ranks.max(), mean + ranks.mean()
    return slowest / mean


def test_placement_is_judged_as_numpy_judges_it(program, tmp_path):
    records = GOLDEN_FOLDER / "esft" / "records"
    layers = {}
    for layer in ("1", "2", "10"):
        lines = (records / f"expert_weights_{layer}.txt").read_text().splitlines()
        ids = [int(i) for line in lines for i in line.split("\t\t")[0].split("\t")]
        layers[layer] = np.bincount(ids, minlength=16)
    trained = {"1": [0, 5], "10": [15, 3, 4]}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"experts": trained, "shared_experts": False,
                                  "non_expert_modules": False}))
    arguments = ["plan", "--placement", "--scores", records, "--config", config, "--ep", 4]
    found = json.loads(program.run(*arguments, "--json").output)
    rank_of = {layer: np.array(found["layers"][layer]["rank_of"]) for layer in layers}
    for layer, ranks in rank_of.items():
        assert np.bincount(ranks).tolist() == [4, 4, 4, 4]
    contiguous = {layer: np.arange(16) // 4 for layer in layers}
    assert found["contiguous"]["critical_path"] == pytest.approx(
        critical_path(layers, contiguous, trained, 4), rel=1e-9)
    assert found["balanced"]["critical_path"] == pytest.approx(
        critical_path(layers, rank_of, trained, 4), rel=1e-9)
    assert found["balanced"]["critical_path"] < found["contiguous"]["critical_path"]
    config.write_text(json.dumps({"experts": {"3": [0]}, "shared_experts": False,
                                  "non_expert_modules": False}))
    assert "E0328" in program.run(*arguments, code=3).output
    assert "--config" in program.run(*arguments[:4], code=2).output
