"""`sutor merge`, and models with adapters over them, against arithmetic on the files."""

import json

import pytest
import torch

import models
import runner


def adapter_of(program, folder, model, rows, config, lr=1e-2):
    """The adapter that two steps on these experts leave, and its tensors."""
    run = runner.Run(program, folder, model, rows, config, steps=2, optim={"lr": lr})
    run.prepare().train()
    adapter, _ = run.export()
    return adapter, runner.read_tensors(adapter)


@pytest.fixture
def adapters(program, model_dir, tmp_path):
    """A model, and adapters of experts {1: 0, 1}, {1: 2; 2: 5} and {1: 1; 2: 3}."""
    shape = models.shape("ds-lite")
    model = model_dir(shape)
    rows = runner.write_rows(models.sample_ids(shape), tmp_path / "rows.jsonl")
    experts = [{"1": [0, 1]}, {"1": [2], "2": [5]}, {"1": [1], "2": [3]}]
    flags = {"shared_experts": False, "non_expert_modules": False}
    made = [adapter_of(program, tmp_path / f"a{i}", model, rows, {"experts": e, **flags},
                       lr=1e-2 * (i + 1)) for i, e in enumerate(experts)]
    return model, made, rows


def merge(program, model, out, *adapters, code=0, **options):
    arguments = [a for adapter in adapters for a in ("--adapter", adapter)]
    for key, value in options.items():
        arguments += [f"--{key}"] + ([] if value is True else [value])
    return program.run("merge", "--base", model, "--out", out, *arguments, code=code)


def test_disjoint_adapters_both_stand_in_the_merged_model(program, adapters, tmp_path):
    model, [(a, in_a), (b, in_b), _], _ = adapters
    output = merge(program, model, tmp_path / "out", a, b, verify=True).output
    assert "no two adapters change the same tensor" in output
    base, merged = runner.read_tensors(model), runner.read_tensors(tmp_path / "out")
    for name, value in merged.items():
        assert value.equal(in_a.get(name, in_b.get(name, base[name]))), name
    with torch.no_grad():  # and it loads
        assert torch.isfinite(models.load(tmp_path / "out")(models.sample_ids(
            models.shape("ds-lite"))).logits).all()


def test_one_adapter_of_several(program, adapters, tmp_path):
    model, [(a, in_a), (b, in_b), _], _ = adapters
    merge(program, model, tmp_path / "out", a, b, verify=True, format="adapter")
    merged = runner.read_tensors(tmp_path / "out")
    assert merged.keys() == in_a.keys() | in_b.keys()
    config = json.loads((tmp_path / "out" / "expert_cfg.json").read_text())
    assert {k: sorted(v) for k, v in config["experts"].items()} == {"1": [0, 1, 2], "2": [5]}


def test_conflicts_are_named_and_refused(program, adapters, tmp_path):
    model, [(a, _), _, (c, _)], _ = adapters
    output = merge(program, model, tmp_path / "out", a, c, code=1).output
    assert "layer 1: expert 1" in output and "E0103" in output
    assert not (tmp_path / "out").exists()
    merge(program, model, tmp_path / "same", a, a)  # equal values are no conflict


@pytest.mark.parametrize("rule", ["first", "last", "add"])
def test_rules_for_conflicts(program, adapters, tmp_path, rule):
    model, [(a, in_a), _, (c, in_c)], _ = adapters
    merge(program, model, tmp_path / "out", a, c, verify=True, conflicts=rule)
    base, merged = runner.read_tensors(model), runner.read_tensors(tmp_path / "out")
    both = in_a.keys() & in_c.keys()
    assert len(both) == 3
    for name in both:
        expected = {"first": in_a[name], "last": in_c[name],
                    "add": base[name] + (in_a[name] - base[name]) + (in_c[name] - base[name])}
        assert torch.allclose(merged[name], expected[rule], rtol=0, atol=1e-7)
    for name in merged.keys() - both:
        assert merged[name].equal(in_a.get(name, in_c.get(name, base[name])))


def test_report_as_json(program, adapters, tmp_path):
    model, [(a, _), _, (c, _)], _ = adapters
    report = json.loads(merge(program, model, tmp_path / "out", a, c, conflicts="last",
                              json=True).output)
    assert len(report["conflicts"]) == 3
    assert report["conflicts"][0]["adapters"] == [str(a), str(c)]


def test_an_adapter_of_another_base_is_refused(program, adapters, copy_of, tmp_path):
    from safetensors.torch import load_file, save_file
    model, [(a, _), _, _], _ = adapters
    other = copy_of(model)
    path = next(other.glob("*.safetensors"))
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert "E0305" in merge(program, other, tmp_path / "out", a, code=3).output


def test_training_from_an_adapter_equals_training_from_the_merged_model(program, adapters,
                                                                        tmp_path):
    model, [(a, in_a), _, _], rows = adapters
    merge(program, model, tmp_path / "merged", a)
    config = {"experts": {"1": [1, 4], "2": [7]}, "shared_experts": False,
              "non_expert_modules": False}
    over = runner.Run(program, tmp_path / "over", model, rows, config, steps=3)
    over.set_section("model", {"adapters": [str(a)]})
    over.prepare().train()
    whole = runner.Run(program, tmp_path / "whole", tmp_path / "merged", rows, config, steps=3)
    whole.prepare().train()
    assert over.losses() == whole.losses()
    # The export holds what the first adapter changed too.
    adapter, merged = over.export()
    assert in_a.keys() < runner.read_tensors(adapter).keys()
    _, expected = whole.export()
    found, expected = runner.read_tensors(merged), runner.read_tensors(expected)
    assert all(found[name].equal(value) for name, value in expected.items())
    # Without the adapter the checkpoint does not fit.
    refused = program.run("export", over.recipe, "--set", "model.adapters=[]", "--checkpoint",
                          "latest", "--overwrite", code=3)
    assert "E0305" in refused.output
