"""`sutor params` as users of Python's re meet it: for the layouts of Megatron-Core's golden groups,
the ranks' regular expressions together match exactly the experts of a config."""

import json
import pathlib
import random
import re
from collections import Counter

import pytest

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[2] / "golden" / "golden_groups.json").read_text())
LAYERS, DENSE, EXPERTS = 7, 1, 24
TENSORS = {  # of an expert: local names by scheme, {l} and {e} being the local numbers there
    "hf": ["model.layers.{l}.mlp.experts.{e}.%s_proj.weight" % p for p in ("gate", "up", "down")],
    "sutor": ["layers.{l}.experts.{e}.%s_proj.weight" % p for p in ("gate", "up", "down")],
    "megatron-te": ["decoder.layers.{l}.mlp.experts.linear_fc%d.weight{e}" % n for n in (1, 2)],
    "megatron-local": [
        "decoder.layers.{l}.mlp.experts.local_experts.{e}.linear_fc%d.weight" % n for n in (1, 2)],
}


@pytest.fixture(scope="module")
def model(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("params") / "model"
    program.run("init-model", "--family", "deepseek_v2", "--size", "tiny", "--out", folder,
                "--set", f"num_hidden_layers={LAYERS}", "--set", f"first_k_dense_replace={DENSE}",
                "--set", f"n_routed_experts={EXPERTS}", "--set", "n_group=1",
                "--set", "topk_group=1")
    return folder


def rank_of(groups, name, rank):
    """The rank's index in its group of a kind."""
    return next(group.index(rank) for group in groups[name] if rank in group)


def stage_layers(stage, stages):
    """Even split, the first stages take the remainder."""
    sizes = [LAYERS // stages + (s < LAYERS % stages) for s in range(stages)]
    first = sum(sizes[:stage])
    return range(first, first + sizes[stage])


def local_names(scheme, layers, first_expert, num_local):
    """{local name: (global layer, global expert)} of all routed experts on a rank."""
    names = {}
    for layer in layers:
        for local in range(num_local):
            expert = first_expert + local
            place = {"l": layer if scheme in ("hf", "sutor") else layer - layers[0],
                     "e": expert if scheme == "hf" else local}
            if layer >= DENSE:
                names |= {t.format(**place): (layer, expert) for t in TENSORS[scheme]}
    return names


@pytest.mark.parametrize("scheme", TENSORS)
@pytest.mark.parametrize("layout", GOLDEN)
def test_ranks_together_match_exactly_the_config(program, model, tmp_path, scheme, layout):
    draw = random.Random(f"{layout} {scheme}")
    experts = {layer: draw.sample(range(EXPERTS), draw.randrange(0, 6))
               for layer in range(DENSE, LAYERS)}
    experts[LAYERS - 1] = [1]  # 10 to 19 must not match
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"experts": {str(k): v for k, v in experts.items()},
                                  "shared_experts": False, "non_expert_modules": False}))
    args = dict(GOLDEN[layout]["args"])
    world, ep, pp = args.pop("ws"), args.get("ep", 1), args.get("pp", 1)
    flags = [part for key, value in args.items() for part in (f"--{key}", value)]
    result = program.run("params", "--config", config, "--model", model, "--world", world, *flags,
                         "--names", scheme, "--format", "json")
    ranks = json.loads(result.output)["ranks"]
    assert [r["rank"] for r in ranks] == list(range(world))

    groups = GOLDEN[layout]["groups"]
    found = Counter()
    for entry in ranks:
        rank = entry["rank"]
        assert entry["ep"] == rank_of(groups, "ep", rank)
        assert entry["pp"] == rank_of(groups, "pp", rank)
        names = local_names(scheme, stage_layers(entry["pp"], pp), entry["ep"] * (EXPERTS // ep),
                            EXPERTS // ep)
        matched = [name for name in names if re.search(entry["regex"], name)]
        assert sorted(matched) == sorted(entry["names"])
        found.update(names[name] for name in matched)
    copies = len(TENSORS[scheme]) * len(groups["edp"][0]) * len(groups["etp"][0])
    assert found == {(layer, e): copies for layer, ids in experts.items() for e in ids}
