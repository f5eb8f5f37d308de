"""The references that the other tests compare with, checked against transformers itself."""

import pytest
import torch

import models
import reference


@pytest.mark.parametrize("shape", models.SHAPES[:1] + models.SHAPES[4:5], ids=lambda s: s.name)
def test_training_every_tensor_by_its_disk_name_equals_training_the_model(shape):
    batches = [models.sample_ids(shape, seed=s) for s in range(3)]
    ours = models.build(shape)
    result = reference.train(ours, reference.all_names(ours), batches, weight_decay=0.05)

    plain = models.build(shape)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.95),
                                  weight_decay=0.05)
    losses = []
    for ids in batches:
        loss = plain(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert result["losses"] == pytest.approx(losses, rel=1e-6)


def test_disk_names_are_those_that_save_pretrained_writes(model_dir):
    from safetensors import safe_open
    for shape in models.SHAPES:
        model = models.build(shape)
        with safe_open(model_dir(shape) / "model.safetensors", "pt") as file:
            views = reference.Views(model)
            biases = {n: b for n, b in model.named_buffers() if n.endswith("correction_bias")}
            stored = {n: reference.stored_name(n, shape.family) for n in views.names()}
            assert set(file.keys()) == set(stored.values()) | set(biases)
            if shape.family == "gpt_oss":  # stacks, of which the names are parts
                whole = dict(model.named_parameters())
                assert all(torch.equal(file.get_tensor(n), whole[n]) for n in file.keys())
                continue
            assert all(torch.equal(file.get_tensor(n), views.value(n)) for n in views.names())
            assert all(torch.equal(file.get_tensor(n), b) for n, b in biases.items())


def test_folders_with_fused_experts_or_several_shards_hold_the_same_model(model_dir):
    shape = models.SHAPES[0]
    ids = models.sample_ids(shape)
    logits = models.build(shape)(input_ids=ids).logits
    for form in ({"fused": True}, {"max_shard_size": 300_000}):
        assert torch.equal(models.load(model_dir(shape, **form))(input_ids=ids).logits, logits)
    assert len(list(model_dir(shape, max_shard_size=300_000).glob("*.safetensors"))) > 2


def test_balance_term_is_one_for_each_layer_when_all_probabilities_are_equal():
    shape = models.SHAPES[0]
    model = models.build(shape)
    with torch.no_grad():
        for _, block in models.moe_layers(model):
            block.gate.weight.zero_()  # all probabilities equal: sum of f_e P_e is 1 a layer
    _, term = reference.balance_of(model, models.sample_ids(shape))
    assert float(term.detach()) == pytest.approx(2.0, rel=1e-6)
