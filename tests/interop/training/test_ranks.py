"""The layout does not change the mathematics: EP x replicas in {1x1, 2x1, 1x2, 2x2, 4x1}."""

import pytest
import torch

import models
import reference
import runner

LAYOUTS = [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)]  # (expert parallel size, replicas)


def select(model, what):
    """An expert config that leaves something with nothing to train."""
    experts, layers = models.num_experts(model.config), [n for n, _ in models.moe_layers(model)]
    every = models.pick_experts(model, per_layer=4, idle=True)
    if what == "some everywhere":
        return every
    if what == "first rank only":  # at every EP the other ranks hold no trained expert
        return every | {"experts": {str(n): [1, 0] for n in layers}}
    if what == "last rank only":
        return every | {"experts": {str(n): [experts - 1] for n in layers}}
    if what == "one layer":  # no backward pass below it, nothing to train above it
        return every | {"experts": {str(layers[1]): every["experts"][str(layers[1])]}}
    if what == "first layer":
        return every | {"experts": {str(layers[0]): every["experts"][str(layers[0])]}}
    if what == "everything":
        return {"experts": {str(n): list(range(experts)) for n in layers},
                "shared_experts": True, "non_expert_modules": True}
    raise ValueError(what)


def train_everywhere(program, directory, folder, ids, config, layouts, **sections):
    """{layout: (metrics, adapter tensors)}"""
    rows, results = runner.write_rows(ids, folder / "rows.jsonl"), {}
    for ep, replicas in layouts:
        run = runner.Run(program, folder / f"{ep}x{replicas}", directory, rows, config, **sections)
        run.prepare().train(ranks=ep * replicas, ep=ep)
        adapter, _ = run.export()
        results[ep, replicas] = run.metrics(), runner.read_tensors(adapter)
    return results


def check(results, expected, before):
    for layout, (lines, tensors) in results.items():
        assert [line["loss"] for line in lines] == pytest.approx(
            expected["losses"], rel=1e-5), layout
        assert [line["grad_norm"] for line in lines] == pytest.approx(
            expected["grad_norms"], rel=1e-4), layout
        alone = results[1, 1]
        assert [line["loss"] for line in lines] == pytest.approx(
            [line["loss"] for line in alone[0]], rel=1e-5), layout
        assert [line["grad_norm"] for line in lines] == pytest.approx(
            [line["grad_norm"] for line in alone[0]], rel=1e-5), layout
        assert tensors.keys() == alone[1].keys() == expected["values"].keys()
        for name, tensor in tensors.items():
            update = (alone[1][name] - before[name]).norm()
            assert update > 0, name
            assert (tensor - alone[1][name]).norm() <= 1e-3 * update, (layout, name)


def run_case(program, model_dir, folder, shape, what, layouts=LAYOUTS, ids=None, **sections):
    model = models.build(shape)
    ids = models.sample_ids(shape) if ids is None else ids
    config = select(model, what)
    names = reference.trained_names(model, config)
    before = {n: reference.Views(model).value(n).clone() for n in names}
    results = train_everywhere(program, model_dir(shape), folder, ids, config, layouts, **sections)
    check(results, reference.train(model, names, [ids] * 5), before)


@pytest.mark.parametrize("router", ["even", "sharp", "one_rank"])
@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_all_layouts(program, model_dir, tmp_path, name, router):
    shape = models.shape(name)
    if router != "even":
        shape = shape.with_router(router)
    run_case(program, model_dir, tmp_path, shape, "some everywhere")


@pytest.mark.parametrize("what", ["first rank only", "last rank only", "one layer", "first layer",
                                  "everything"])
@pytest.mark.parametrize("name", ["ds-qlora-groups-sharp", "qw-gqa-sharp"])
def test_selections_that_leave_something_idle(program, model_dir, tmp_path, name, what):
    run_case(program, model_dir, tmp_path, models.shape(name), what, [(1, 1), (2, 2), (4, 1)])


@pytest.mark.parametrize("name", ["ds-lite"])
def test_uneven_rows_over_replicas(program, model_dir, tmp_path, name):
    """Five rows on four ranks: one rank runs a second micro-batch, the others an empty one; two
    rows: two ranks get none at all."""
    shape = models.shape(name)
    for rows in (5, 2):
        folder = tmp_path / str(rows)
        folder.mkdir()
        run_case(program, model_dir, folder, shape, "some everywhere", [(1, 1), (1, 4), (4, 1)],
                 ids=models.sample_ids(shape, rows=rows, seed=4))


def test_full_training_with_replicas(program, model_dir, tmp_path):
    shape = models.shape("qw-gqa")
    model, ids = models.build(shape), models.sample_ids(shape)
    expected = reference.train(model, reference.all_names(model), [ids] * 5)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    for ep, replicas in [(1, 1), (2, 1), (1, 2)]:
        run = runner.Run(program, tmp_path / f"{ep}x{replicas}", model_dir(shape), rows,
                         train={"method": "full"})
        run.prepare().train(ranks=ep * replicas, ep=ep)
        assert run.losses() == pytest.approx(expected["losses"], rel=1e-5)


def test_one_expert_in_the_whole_model(program, model_dir, tmp_path):
    """Three of four ranks have neither a gradient nor optimizer state."""
    shape = models.shape("ds-lite")
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model, per_layer=1, layers=[2])
    names = reference.trained_names(model, config)
    before = {n: reference.Views(model).value(n).clone() for n in names}
    results = train_everywhere(program, model_dir(shape), tmp_path, ids, config,
                               [(1, 1), (1, 4), (4, 1)])
    check(results, reference.train(model, names, [ids] * 5), before)


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_balanced_placement_changes_no_numbers(program, model_dir, tmp_path, name):
    """Experts lie where scores and training suggest; losses, norms and what is trained stay."""
    shape = models.shape(name)
    directory, ids = model_dir(shape), models.sample_ids(shape)
    config = models.pick_experts(models.load(directory), per_layer=3, idle=True)
    rows, results = runner.write_rows(ids, tmp_path / "rows.jsonl"), {}
    for ep, placement in [(1, "contiguous"), (2, "contiguous"), (2, "balanced"), (4, "balanced")]:
        run = runner.Run(program, tmp_path / f"{placement}{ep}", directory, rows, config)
        run.set_section("parallel", {"expert_placement": placement})
        run.prepare()
        program.run("score", run.recipe)
        run.train(ranks=ep, ep=ep)
        adapter, _ = run.export()
        results[placement, ep] = run.metrics(), runner.read_tensors(adapter)
    lines, tensors = results["contiguous", 1]
    for key, (other_lines, other_tensors) in results.items():
        for measure in ("loss", "grad_norm"):
            assert [line[measure] for line in other_lines] == pytest.approx(
                [line[measure] for line in lines], rel=1e-5), key
        assert other_tensors.keys() == tensors.keys()
        for tensor_name, tensor in tensors.items():
            assert torch.allclose(other_tensors[tensor_name], tensor, rtol=1e-4, atol=1e-6), key


def test_balanced_placement_without_scores_is_refused_on_all_ranks(program, model_dir, tmp_path):
    shape = models.shape("ds-lite")
    directory = model_dir(shape)
    rows = runner.write_rows(models.sample_ids(shape), tmp_path / "rows.jsonl")
    config = models.pick_experts(models.load(directory), per_layer=3)
    run = runner.Run(program, tmp_path / "run", directory, rows, config)
    run.set_section("parallel", {"expert_placement": "balanced"})
    run.prepare()
    result = program.run("train", run.recipe, "--set", "parallel.ep=2", ranks=2, code=3)
    assert "E0324" in result.output and "sutor score" in result.output
