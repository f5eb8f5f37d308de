"""Trainings by adamw_bf16: resumed bit for bit, read by everything that wants trained values, and
never mixed up with adamw's."""

import json

import h5py
import numpy as np
import pytest
import torch

import models
import runner

SHAPE = models.shape("ds-lite")
BF16 = {"optim": {"name": "adamw_bf16"}, "model": {"dtype": "bf16"}}


def training(program, model_dir, folder, steps, **sections):
    folder.mkdir(parents=True, exist_ok=True)
    model, ids = models.build(SHAPE), models.sample_ids(SHAPE)
    return runner.Run(program, folder, model_dir(SHAPE, "bf16"),
                      runner.write_rows(ids, folder / "rows.jsonl"),
                      models.pick_experts(model), steps=steps, **(BF16 | sections)).prepare()


def tiles(checkpoint):
    """{path of the dataset: its bits} of all files of a checkpoint."""
    found = {}
    for path in sorted(checkpoint.glob("w*.h5")):
        with h5py.File(path, "r") as file:
            def visit(where, item):
                if isinstance(item, h5py.Dataset):
                    found[where] = item[()]
            file.visititems(visit)
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_training_has_the_bits_of_one_that_went_through(program, model_dir, tmp_path,
                                                                 ranks):
    through = training(program, model_dir, tmp_path / "through", 4)
    through.train(ranks=ranks, ep=ranks)
    stopped = training(program, model_dir, tmp_path / "stopped", 2)
    stopped.train(ranks=ranks, ep=ranks)
    stopped.set_section("schedule", {"epochs": 4})
    stopped.train("--resume", ranks=ranks, ep=ranks)
    wanted, found = (tiles(run.checkpoints()[-1]) for run in (through, stopped))
    assert wanted.keys() == found.keys()
    for where, value in wanted.items():
        assert value.dtype == np.uint16 and np.array_equal(found[where], value), where


def test_the_loss_falls_as_with_adamw(program, model_dir, tmp_path):
    losses = {}
    for name in ("adamw", "adamw_bf16"):
        run = training(program, model_dir, tmp_path / name, 10,
                       optim={"name": name, "lr": 1e-2}).train_it()
        losses[name] = run.losses()
    fall = {name: values[0] - values[-1] for name, values in losses.items()}
    assert fall["adamw"] > 0.1
    assert fall["adamw_bf16"] == pytest.approx(fall["adamw"], rel=0.1)


def test_trained_values_reach_every_reader(program, model_dir, tmp_path):
    run = training(program, model_dir, tmp_path, 2).train_it()
    checkpoint = run.checkpoints()[-1]
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    assert manifest["optimizer"]["name"] == "adamw_bf16"
    assert manifest["optimizer"]["values"] == "weight"
    stored = {where.split("/")[0]: value for where, value in tiles(checkpoint).items()
              if where.split("/")[1] == "weight"}
    adapter, merged = run.export()
    for tensors in (runner.read_tensors(adapter), runner.read_tensors(merged)):
        for name, bits in stored.items():
            assert tensors[name].dtype == torch.bfloat16
            assert np.array_equal(tensors[name].view(torch.int16).numpy().view(np.uint16),
                                  bits.reshape(tensors[name].shape)), name
    program.run("verify", checkpoint)
    assert "adamw_bf16 (weight BF16" in program.run("inspect", checkpoint).output
    # Moments are the checkpoint's alone; every weight is the adapter's.
    differences = program.run("diff", checkpoint, adapter, code=None).output
    assert f"{len(stored)} equal, {2 * len(stored)} only in A" in differences
    rows = run.folder / "rows.jsonl"
    run.set_section("data", {"eval": [{"path": str(rows), "name": "held_out"}]})
    program.run("prepare", run.recipe)
    program.run("eval", run.recipe, "--checkpoint", checkpoint)


def test_another_optimizer_does_not_go_on_from_it(program, model_dir, tmp_path):
    run = training(program, model_dir, tmp_path, 2).train_it()
    result = run.train("--resume", "--set", "optim.name=adamw", code=3)
    assert "E0380" in result.output and "adamw_bf16 (weight BF16" in result.output
    result = run.train("--overwrite", "--set", "model.dtype=fp32", code=2)
    assert "E0280" in result.output


@pytest.mark.parametrize("method", ["esft", "full", "lora"])
def test_every_method_trains_with_it(program, model_dir, tmp_path, method):
    run = training(program, model_dir, tmp_path, 3, train={"method": method},
                   optim={"name": "adamw_bf16", "lr": 1e-2})
    run.train(ranks=2, ep=2)
    losses = run.losses()
    assert losses[-1] < losses[0]
