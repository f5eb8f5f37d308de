"""`sutor plan --groups` prints Megatron-Core's groups."""

import json
import pathlib

import pytest

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "golden_groups.json").read_text())


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
