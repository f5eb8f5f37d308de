"""Every parallel axis trains the numbers of transformers, saves what any other layout resumes, and
works in score, eval, generate and export. The matrix of layouts against one process, with
gradients, is tests/mpi/layout_parity_test.cc."""

import dataclasses
import json

import pytest

import models
import reference
import runner

# (ranks, parallel section); the data-parallel sizes follow.
LAYOUTS = {
    "TP2": (2, {"tp": 2, "sequence_parallel": False}),
    "TP2+SP": (2, {"tp": 2}),
    "CP2": (2, {"cp": 2}),
    "PP2": (2, {"pp": 2}),
    "PP4": (4, {"pp": 4}),
    "EP2": (2, {"ep": 2}),
    "EP4": (4, {"ep": 4}),
    "ETP2": (2, {"etp": 2}),
    "DP2": (2, {}),
    "TP2xPP2": (4, {"tp": 2, "pp": 2}),
    "EP2xEDP2": (4, {"ep": 2}),
    "CP2xEP2": (2, {"cp": 2, "ep": 2}),
    "TP2xEP4": (4, {"tp": 2, "ep": 4}),
    "PP2xEP2": (4, {"pp": 2, "ep": 2}),
    "PP2 by cost": (2, {"pp": 2, "stages": "auto"}),
    "TP2xCP2xPP2": (8, {"tp": 2, "cp": 2, "pp": 2}),
    "PP2xEP2xEDP2": (8, {"pp": 2, "ep": 2}),
}


def five_layers(name):
    """A model of five layers, so that four stages are uneven, with sharp routers."""
    shape = models.shape(name)
    values = shape.values | {"num_hidden_layers": 5}
    return dataclasses.replace(shape, name=f"{name}-5", values=values).with_router("sharp")


def uneven(model):
    """Some layers without trained experts, some with most of them on the first ranks."""
    layers = [n for n, _ in models.moe_layers(model)]
    chosen = models.pick_experts(model, per_layer=4, idle=True)
    chosen["experts"] = {str(layers[1]): [0, 1, 2, 3, 5], str(layers[-1]): [15, 2]}
    return chosen


def settings(parallel):
    return [part for key, value in parallel.items()
            for part in ("--set", f"parallel.{key}={str(value).lower()}")]


def train(run, layout, *arguments, **options):
    ranks, parallel = LAYOUTS[layout]
    return run.program.run("train", run.recipe, *settings(parallel), *arguments, ranks=ranks,
                           timeout=120, **options)


@pytest.mark.parametrize("what", ["experts", "everything"])
@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_every_layout_trains_the_numbers_of_transformers(program, model_dir, tmp_path, name, what):
    shape = five_layers(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    config = uneven(model)
    if what == "everything":
        config |= {"shared_experts": name == "ds-lite", "non_expert_modules": True}
    names = reference.trained_names(model, config)
    before = {n: reference.Views(model).value(n).clone() for n in names}
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    alone = runner.Run(program, tmp_path / "alone", model_dir(shape), rows, config).prepare()
    alone.train()
    expected = reference.train(model, names, [ids] * 5)
    assert alone.losses() == pytest.approx(expected["losses"], rel=1e-5)
    wanted = runner.read_tensors(alone.export()[0])
    for layout in LAYOUTS:
        folder = tmp_path / layout.replace(" ", "_")
        run = runner.Run(program, folder, model_dir(shape), rows, config).prepare()
        train(run, layout)
        assert run.losses() == pytest.approx(alone.losses(), rel=1e-5), layout
        norms = [line["grad_norm"] for line in alone.metrics()]
        assert [line["grad_norm"] for line in run.metrics()] == pytest.approx(norms, rel=1e-5), layout
        tensors = runner.read_tensors(run.export()[0])
        assert tensors.keys() == wanted.keys()
        for tensor_name, tensor in tensors.items():
            update = (wanted[tensor_name] - before[tensor_name]).norm()
            difference = (tensor - wanted[tensor_name]).norm()
            assert difference <= 1e-3 * update, (layout, tensor_name)


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_what_one_layout_saves_every_other_resumes(program, model_dir, tmp_path, name):
    """A training goes on under another layout after every step; its losses are those of a training
    that one process did."""
    shape = five_layers(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    config = uneven(model) | {"shared_experts": name == "ds-lite", "non_expert_modules": True}
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    order = list(LAYOUTS) + ["TP2xCP2xPP2", "EP4", "TP2xPP2", "ETP2", "CP2xEP2", "PP4", "TP2"]
    sections = {"checkpoint": {"every": 1, "keep": 2}}
    alone = runner.Run(program, tmp_path / "alone", model_dir(shape), rows, config,
                       steps=len(order), **sections).prepare()
    alone.train()
    run = runner.Run(program, tmp_path / "changing", model_dir(shape), rows, config,
                     steps=len(order), **sections).prepare()
    for step, layout in enumerate(order, start=1):
        train(run, layout, "--set", f"schedule.epochs={step}", *(["--resume"] if step > 1 else []))
        assert run.losses() == pytest.approx(alone.losses()[:step], rel=1e-5), layout


def test_packed_documents_lose_what_separate_ones_do(program, model_dir, tmp_path):
    """With and without context parallelism, within 1e-6."""
    shape = models.shape("qw-gqa-sharp")
    ids = models.sample_ids(shape, rows=6, tokens=20)
    config = models.pick_experts(models.build(shape))
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    losses = {}
    for packing in (False, True):
        for layout in (None, "CP2"):
            folder = tmp_path / f"{packing}{layout}"
            run = runner.Run(program, folder, model_dir(shape), rows, config, steps=2,
                             data={"packing": packing, "seq_len": 60}).prepare()
            if packing:
                run.set_section("train", {"global_batch": 2})
            train(run, layout) if layout else run.train()
            losses[packing, layout] = run.losses()
    expected = losses.pop((False, None))
    for key, found in losses.items():
        assert found == pytest.approx(expected, rel=1e-6), key


@pytest.mark.parametrize("layout", ["TP2+SP", "TP2", "CP2", "PP2", "ETP2", "TP2xPP2", "CP2xEP2",
                                    "TP2xCP2xPP2"])
def test_scores_evaluations_and_texts_are_those_of_one_process(program, model_dir, tmp_path,
                                                               layout):
    shape = five_layers("ds-lite")
    ids = models.sample_ids(shape, rows=5)
    rows = runner.write_rows(ids, tmp_path / "rows.jsonl")
    config = uneven(models.build(shape))
    found = {}
    for name in (None, layout):
        ranks, parallel = LAYOUTS[name] if name else (1, {})
        run = runner.Run(program, tmp_path / str(bool(name)), model_dir(shape), rows, config)
        run.set_section("data", {"eval": [{"path": str(rows), "name": "rows"}]})
        run.set_section("esft", {"score": {"count": "supervised"}})
        run.prepare()
        records = tmp_path / f"records{bool(name)}"
        program.run("score", run.recipe, *settings(parallel), "--records", records, ranks=ranks)
        evaluation = program.run("eval", run.recipe, *settings(parallel), "--checkpoint", "none",
                                 "--json", ranks=ranks)
        values = json.loads(evaluation.output[evaluation.output.index("\n{") + 1:]
                            if not evaluation.output.startswith("{") else evaluation.output)
        scores = (run.output / "scores").glob("*") if (run.output / "scores").is_dir() else []
        found[name] = values, run, records, list(scores)
    alone, many = found[None], found[layout]
    for measure in ("loss", "token_acc", "exact_match", "targets"):
        assert many[0]["base"]["sets"]["rows"][measure] == pytest.approx(
            alone[0]["base"]["sets"]["rows"][measure], rel=1e-6), measure
    for path in sorted(alone[2].glob("expert_weights_*.txt")):
        lines = path.read_text().split()
        others = (many[2] / path.name).read_text().split()
        assert len(lines) == len(others)
        assert sum(a != b for a, b in zip(lines, others)) <= len(lines) // 200, path.name
