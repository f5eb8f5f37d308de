"""Logits, router choices, loss and gradients of sutor are those of transformers."""

import pytest
import torch

import models
import reference
from logits import check_forward, run_logits

ALL_SHAPES = models.SHAPES + models.SHARP_SHAPES


def check_gradients(model, ids, names, found, idle_may_exist=True):
    loss, gradients = reference.gradients(model, ids, names)
    assert found["loss"].shape == (1,)
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-6)
    assert {n for n in found if n.startswith("grad.")} == {f"grad.{n}" for n in names}
    idle = 0
    for name, gradient in gradients.items():
        ours = found[f"grad.{name}"]
        assert ours.dtype == torch.float32 and ours.shape == gradient.shape
        if not gradient.any():
            idle += 1
            assert not ours.any(), f"{name}: no token came, but its gradient is not zero"
        else:
            assert (ours - gradient).norm() <= 1e-4 * gradient.norm(), name
    return idle


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=lambda s: s.name)
def test_forward_loss_and_expert_gradients_in_fp32(program, model_dir, tmp_path, shape):
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model, per_layer=3, idle=True)
    found = run_logits(program, model_dir(shape), ids, tmp_path, grads=config)
    check_forward(model, ids, found)
    idle = check_gradients(model, ids, reference.trained_names(model, config), found)
    if shape.router == "sharp":
        assert idle > 0


@pytest.mark.parametrize("shape", models.SHAPES, ids=lambda s: s.name)
def test_gradients_of_every_tensor(program, model_dir, tmp_path, shape):
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model, per_layer=models.num_experts(model.config))
    config |= {"shared_experts": True, "non_expert_modules": True}
    found = run_logits(program, model_dir(shape), ids, tmp_path, grads=config)
    busy = reference.trained_names(model, config)  # experts without tokens are not in it
    check_gradients(model, ids, busy, found)


@pytest.mark.parametrize("layers", [[1], [2]])
def test_gradients_when_only_one_layer_trains(program, model_dir, tmp_path, layers):
    shape = models.shape("qw-gqa")
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model, layers=layers)
    found = run_logits(program, model_dir(shape), ids, tmp_path, grads=config)
    check_gradients(model, ids, reference.trained_names(model, config), found)


@pytest.mark.parametrize("name", ["ds-lite", "qw-sparse-step"])
@pytest.mark.parametrize("rows,tokens", [(1, 1), (3, 1), (1, 601), (7, 33)])
def test_row_counts_and_lengths(program, model_dir, tmp_path, name, rows, tokens):
    shape = models.shape(name)
    model, ids = models.build(shape), models.sample_ids(shape, rows, tokens, seed=9)
    check_forward(model, ids, run_logits(program, model_dir(shape), ids, tmp_path))


@pytest.mark.parametrize("form", [{"max_shard_size": 300_000}, {"fused": True}],
                         ids=["sharded", "fused"])
@pytest.mark.parametrize("name", ["ds-lite", "qw-odd-bias-tied"])
def test_forms_of_a_checkpoint_give_the_same_bits(program, model_dir, tmp_path, name, form):
    shape, results = models.shape(name), []
    ids = models.sample_ids(shape)
    for i, directory in enumerate([model_dir(shape), model_dir(shape, **form)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        results.append(run_logits(program, directory, ids, folder))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_bf16_checkpoint_computed_in_fp32(program, model_dir, tmp_path, name):
    shape = models.shape(name)
    directory, ids = model_dir(shape, dtype="bf16"), models.sample_ids(shape)
    found = run_logits(program, directory, ids, tmp_path)
    check_forward(models.load(directory, torch.float32), ids, found)


@pytest.mark.parametrize("shape", ALL_SHAPES[::2], ids=lambda s: s.name)
def test_bf16_loss(program, model_dir, tmp_path, shape):
    directory, ids = model_dir(shape, dtype="bf16"), models.sample_ids(shape)
    model = models.load(directory, torch.bfloat16)
    with torch.no_grad():
        loss = float(reference.loss_of(model, ids))
    logits = run_logits(program, directory, ids, tmp_path, dtype="bf16")["logits"]
    assert logits.dtype == torch.float32
    ours = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert float(ours) == pytest.approx(loss, rel=2e-2)


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_bf16_gradients_point_where_those_of_fp32_do(program, model_dir, tmp_path, name):
    shape = models.shape(name)
    directory, ids = model_dir(shape, dtype="bf16"), models.sample_ids(shape)
    model = models.load(directory, torch.float32)
    config = models.pick_experts(model)
    names = reference.trained_names(model, config)
    found = run_logits(program, directory, ids, tmp_path, dtype="bf16", grads=config)
    loss, gradients = reference.gradients(model, ids, names)
    assert float(found["loss"]) == pytest.approx(loss, rel=2e-2)
    ours = torch.cat([found[f"grad.{n}"].flatten() for n in names])
    theirs = torch.cat([gradients[n].flatten() for n in names])
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.98


def test_configuration_as_transformers_4_wrote_it(program, tmp_path):
    """The golden folders have rope_theta, rope_scaling and torch_dtype in their config.json."""
    from safetensors.torch import load_file
    golden = models.pathlib.Path(__file__).parents[2] / "golden" / "models"
    for name in ("deepseek_v2_lite", "qwen3_moe_gqa"):
        expected = load_file(golden / name / "expected.safetensors")
        folder = tmp_path / name
        folder.mkdir()
        found = run_logits(program, golden / name, expected["ids"], folder)
        assert (found["logits"] - expected["logits"]).abs().max() <= 1e-4
