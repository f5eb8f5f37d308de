"""Files of a run in the readers that people trust: h5py, safetensors, TensorBoard."""

import json

import h5py
import numpy as np
import pytest
import torch

import models
import reference
import runner
from artifacts import checkpoint_tiles

SHAPE = models.shape("ds-lite")


@pytest.fixture(scope="module")
def trained(program, model_dir, tmp_path_factory):
    """A training of three steps on two ranks, and what it started from."""
    folder = tmp_path_factory.mktemp("trained")
    model, ids = models.build(SHAPE), models.sample_ids(SHAPE)
    config = models.pick_experts(model, per_layer=3)
    labels = ids.clone()
    labels[1, :7] = -100
    run = runner.Run(program, folder, model_dir(SHAPE),
                     runner.write_rows(ids, folder / "rows.jsonl", labels), config, steps=3)
    run.prepare().train(ranks=2, ep=2)
    run.adapter, run.merged = run.export()
    run.ids, run.labels, run.names = ids, labels, reference.trained_names(model, config)
    return run


def test_token_store_in_h5py(trained):
    with h5py.File(trained.output / "tokens" / "rows.tokens.h5", "r") as file:
        assert file.attrs["format"] == b"sutor.token_store"
        ids, mask, offsets = file["ids"][:], file["loss_mask"][:], file["doc_offsets"][:]
        rows, tokens = trained.ids.shape
        assert np.array_equal(offsets, np.arange(rows + 1) * tokens)
        assert np.array_equal(ids.reshape(rows, tokens), trained.ids.numpy())
        expected = (trained.labels != -100).numpy().copy()
        expected[:, 0] = False  # nothing predicts a document's first token
        assert np.array_equal(mask.reshape(rows, tokens).astype(bool), expected)
        assert file.attrs["tokens"] == ids.size and file.attrs["documents"] == rows
        assert file.attrs["supervised_tokens"] == expected.sum()


def test_checkpoint_in_h5py(trained):
    folder = trained.checkpoints()[-1]
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest
    tensors = checkpoint_tiles(folder)
    assert {name for name, _ in tensors} == set(trained.names)
    assert {kind for _, kind in tensors} == {"master", "exp_avg", "exp_avg_sq"}
    adapter = runner.read_tensors(trained.adapter)
    for (name, kind), value in tensors.items():
        assert value.dtype == np.float32 and value.size == adapter[name].numel()
        if kind == "master":
            assert np.array_equal(value.reshape(adapter[name].shape), adapter[name].numpy()), name
        if kind == "exp_avg_sq":
            assert (value >= 0).all()


def test_moments_of_a_checkpoint_are_those_of_adamw(program, model_dir, tmp_path):
    """After one step: exp_avg = (1 - beta1) g, exp_avg_sq = (1 - beta2) g^2, of the clipped g."""
    model, ids = models.build(SHAPE), models.sample_ids(SHAPE)
    config = models.pick_experts(model)
    run = runner.Run(program, tmp_path, model_dir(SHAPE),
                     runner.write_rows(ids, tmp_path / "rows.jsonl"), config, steps=1)
    run.prepare().train()
    names = reference.trained_names(model, config)
    _, gradients = reference.gradients(model, ids, names)
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    scale = min(1.0, 1.0 / float(norm))
    tensors = checkpoint_tiles(run.checkpoints()[-1])
    for name, gradient in gradients.items():
        g = gradient.flatten() * scale
        m, v = (torch.from_numpy(tensors[name, k].copy()).flatten()
                for k in ("exp_avg", "exp_avg_sq"))
        assert (m - 0.1 * g).norm() <= 1e-4 * (0.1 * g).norm()
        assert (v - 0.05 * g * g).norm() <= 2e-4 * (0.05 * g * g).norm()


def test_adapter_in_safetensors(trained):
    tensors = runner.read_tensors(trained.adapter)
    assert set(tensors) == set(trained.names)
    merged = runner.read_tensors(trained.merged)
    assert all(torch.equal(tensors[n], merged[n]) for n in tensors)


def test_tensorboard_reads_every_step(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(trained.output / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    loss = next(t for t in tags if t.split("/")[-1] == "loss" and "eval" not in t)
    lines = trained.metrics()
    scalars = events.Scalars(loss)
    assert [s.step for s in scalars] == [line["step"] for line in lines]
    assert [s.value for s in scalars] == pytest.approx([line["loss"] for line in lines], rel=1e-6)
    for what in ("grad_norm", "lr"):
        assert any(t.split("/")[-1] == what for t in tags), tags


def test_inspect_knows_every_artefact(program, trained, model_dir):
    for path in (trained.checkpoints()[-1], trained.adapter, trained.merged, model_dir(SHAPE),
                 trained.output / "tokens" / "rows.tokens.h5"):
        assert program.run("inspect", path).output.strip()


def test_scores_of_transformers_routers(program, model_dir, tmp_path):
    """Counts of choices, and sums of the weights as they were before routed_scaling_factor."""
    for name in ("ds-qlora-groups", "qw-gqa-sharp", "go-20b"):
        shape = models.shape(name)
        model, ids = models.build(shape), models.sample_ids(shape)
        config = models.pick_experts(model)
        for ranks, ep in [(1, 1), (4, 2)]:
            run = runner.Run(program, tmp_path / f"{name}-{ranks}", model_dir(shape),
                             runner.write_rows(ids, tmp_path / f"{name}.jsonl"), config)
            run.prepare()
            program.run("score", run.recipe, "--set", "esft.score.tokens=-1", "--set",
                        f"parallel.ep={ep}", "--set", "esft.config=null", ranks=ranks)
            check_scores(run.output / "scores.h5", model, ids)


def check_scores(path, model, ids):
    choices, _ = models.record_routers(model, ids)
    scale = getattr(model.config, "routed_scaling_factor", 1.0)
    experts = models.num_experts(model.config)
    with h5py.File(path, "r") as file:
        assert set(file["layers"]) == {str(layer) for layer in choices}
        unit = 2.0 ** -int(file.attrs["gate_fraction_bits"])
        for layer, (idx, weights) in choices.items():
            group = file["layers"][str(layer)]
            counts = torch.bincount(idx.flatten(), minlength=experts).numpy()
            assert np.array_equal(group["counts"][:], counts)
            gate = torch.zeros(experts, dtype=torch.float64).index_add_(
                0, idx.flatten(), weights.flatten().double() / scale).numpy()
            assert np.allclose(group["gate_sums"][:] * unit, gate, rtol=1e-5, atol=1e-6)
            assert group.attrs["tokens"] == ids.numel()
