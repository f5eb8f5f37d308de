"""Five AdamW steps of `sutor train` against a plain loop over transformers' model."""

import pytest
import torch
import transformers

import models
import reference
import runner

SHAPES = ["ds-lite", "ds-qlora-groups", "ds-odd-sharp", "ds-lite-sharp", "qw-gqa",
          "qw-odd-bias-tied", "qw-sparse-step-sharp", "qw-mlp-only"]


def check_losses(run, expected):
    lines = run.metrics()
    assert [line["step"] for line in lines] == list(range(1, len(expected["losses"]) + 1))
    assert run.losses() == pytest.approx(expected["losses"], rel=1e-5)
    assert [line["grad_norm"] for line in lines] == pytest.approx(expected["grad_norms"], rel=1e-4)


def check_weights(tensors, expected, before):
    """Trained tensors: norm of the difference <= 1e-3 of the norm of the update."""
    assert tensors.keys() == expected["values"].keys()
    for name, value in expected["values"].items():
        update = (value - before[name]).norm()
        assert (tensors[name] - value).norm() <= 1e-3 * update, name


def check_five_steps(program, directory, folder, model, ids, config):
    """Trains by the config: losses, norms and exported weights. Returns the run."""
    names = reference.trained_names(model, config)
    before = {n: reference.Views(model).value(n).clone() for n in names}
    rows = runner.write_rows(ids, folder / "rows.jsonl")
    run = runner.Run(program, folder, directory, rows, config).prepare().train_it()
    expected = reference.train(model, names, [ids] * 5)
    check_losses(run, expected)
    adapter, _ = run.export()
    check_weights(runner.read_tensors(adapter), expected, before)
    return run


@pytest.mark.parametrize("name", SHAPES)
def test_five_steps_on_chosen_experts(program, model_dir, tmp_path, name):
    shape = models.shape(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model, per_layer=3, idle=True)
    run = check_five_steps(program, model_dir(shape), tmp_path, model, ids, config)
    for line in run.metrics():
        assert line["tokens"] == ids.numel()
        assert line["supervised_tokens"] == ids.shape[0] * (ids.shape[1] - 1)
        assert line["lr"] == 1e-3
        assert line["tokens_per_s"] > 0 and line["peak_memory_bytes"] > 0
        assert "balance_loss" not in line or line["balance_loss"] is None


@pytest.mark.parametrize("name", ["ds-qlora-groups", "ds-no-dense-tied", "qw-odd-bias-tied"])
@pytest.mark.parametrize("shared,others", [(True, False), (False, True), (True, True)],
                         ids=["shared", "others", "both"])
def test_shared_experts_and_other_modules(program, model_dir, tmp_path, name, shared, others):
    shape = models.shape(name)
    if shape.family == "qwen3_moe" and not others:
        pytest.skip("qwen3_moe has no shared experts")
    model, ids = models.build(shape), models.sample_ids(shape)
    config = models.pick_experts(model) | {"shared_experts": shared, "non_expert_modules": others}
    check_five_steps(program, model_dir(shape), tmp_path, model, ids, config)


@pytest.mark.parametrize("name", ["ds-lite", "ds-no-dense-tied", "qw-gqa"])
def test_full_with_decay_of_matrices_only(program, model_dir, tmp_path, name):
    shape = models.shape(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    run = runner.Run(program, tmp_path, model_dir(shape),
                     runner.write_rows(ids, tmp_path / "rows.jsonl"),
                     train={"method": "full"}, optim={"decay": "matrices", "clip": 0.5})
    run.prepare().train()
    expected = reference.train(model, reference.all_names(model), [ids] * 5, decay="matrices",
                               clip=0.5)
    check_losses(run, expected)


@pytest.mark.parametrize("name,over", [("ds-lite", "sequences"), ("ds-lite", "batch"),
                                       ("qw-gqa-sharp", "batch"), ("qw-gqa-sharp", "sequences"),
                                       ("d3-groups", "sequences")])
@pytest.mark.parametrize("micro_batch", [4, 1])
def test_balance_loss_is_that_of_the_global_batch(program, model_dir, tmp_path, name, over,
                                                  micro_batch):
    """Over the whole batch or as a mean over its sequences, whatever the micro-batch."""
    shape = models.shape(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    run = runner.Run(program, tmp_path, model_dir(shape),
                     runner.write_rows(ids, tmp_path / "rows.jsonl"),
                     train={"method": "full", "balance_loss": 0.02, "balance_over": over,
                            "micro_batch": micro_batch})
    run.prepare().train()
    expected = reference.train(model, reference.all_names(model), [ids] * 5, balance=0.02,
                               over=over)
    check_losses(run, expected)
    assert [line["balance_loss"] for line in run.metrics()] == pytest.approx(
        expected["balance"], rel=1e-5)


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_labels_and_documents_of_unequal_length(program, model_dir, tmp_path, name):
    """The loss is the mean over the supervised tokens of the batch, not of documents or segments;
    packed documents do not attend to each other."""
    shape = models.shape(name)
    model = models.build(shape)
    ids = models.sample_ids(shape, rows=6, tokens=20, seed=3)
    lengths = [20, 3, 11, 7, 16, 20]
    labels = ids.clone()
    labels[0, :9] = -100
    labels[4, 5:] = -100
    labels[5, :] = -100
    labels[5, 4] = ids[5, 4]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(
        models.json.dumps({"input_ids": i[:n].tolist(), "labels": l[:n].tolist()}) + "\n"
        for i, l, n in zip(ids, labels, lengths)))
    targets = labels.clone()
    for row, length in enumerate(lengths):
        targets[row, length:] = -100  # right padding: nothing before it sees it
    with torch.no_grad():
        expected = float(reference.loss_of(model, ids, targets))
    config = models.pick_experts(model)
    for i, packing in enumerate([False, True]):
        run = runner.Run(program, tmp_path / str(i), model_dir(shape), rows, config, steps=1,
                         data={"packing": packing, "seq_len": 48})
        run.prepare().train()
        assert run.losses() == pytest.approx([expected], rel=1e-5)
        assert run.metrics()[0]["tokens"] == sum(lengths)
        assert run.metrics()[0]["supervised_tokens"] == int((targets[:, 1:] != -100).sum())


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedule_and_evaluation(program, model_dir, tmp_path, name, schedule):
    """The rate rises over the warm-up, falls to its minimum; evaluation is transformers' loss."""
    shape = models.shape(name)
    model, ids = models.build(shape), models.sample_ids(shape)
    other = models.sample_ids(shape, rows=3, tokens=17, seed=8)
    held_out = runner.write_rows(other, tmp_path / "held_out.jsonl")
    config = models.pick_experts(model)
    run = runner.Run(
        program, tmp_path, model_dir(shape), runner.write_rows(ids, tmp_path / "rows.jsonl"),
        config, steps=10, data={"eval": [{"path": str(held_out), "name": "held"}]},
        schedule={"name": schedule, "warmup": 3, "min_lr": "10%"},
        eval={"every": 5, "before_training": True})
    run.prepare().train()
    rates = [line["lr"] for line in run.metrics()]
    assert rates[:3] == sorted(rates[:3]) and max(rates) == pytest.approx(1e-3)
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] < 3e-4
    assert rates[3:] == pytest.approx(falling_rates(schedule, 3, 10, 1e-3, 0.1)[3:], rel=1e-12)
    evaluations = runner.read_lines(run.output / "eval.jsonl")
    assert [e["step"] for e in evaluations] == [0, 5, 10]
    with torch.no_grad():
        expected = float(reference.loss_of(model, other))
    assert find(evaluations[0], "loss") == pytest.approx(expected, rel=1e-5)


def falling_rates(schedule, warmup, steps, lr, least):
    """The rates at transformers' steps 0 .. steps - 1, above a share `least` of lr."""
    make = {"linear": transformers.get_linear_schedule_with_warmup,
            "cosine": transformers.get_cosine_schedule_with_warmup}[schedule]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = make(optimizer, warmup, steps)
    shares = []
    for _ in range(steps):
        shares.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()
    return [lr * (least + (1 - least) * share) for share in shares]


def find(value, key):
    """The first value of `key` anywhere in an object."""
    if isinstance(value, dict):
        if key in value:
            return value[key]
        for inner in value.values():
            found = find(inner, key)
            if found is not None:
                return found
    return None


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa-sharp"])
def test_bf16_training_follows_fp32(program, model_dir, tmp_path, name):
    """Frozen weights and computing in bf16, master weights in fp32."""
    shape = models.shape(name)
    directory, ids = model_dir(shape, dtype="bf16"), models.sample_ids(shape)
    model = models.load(directory, torch.float32)
    config = models.pick_experts(model, per_layer=4)
    run = runner.Run(program, tmp_path, directory,
                     runner.write_rows(ids, tmp_path / "rows.jsonl"), config,
                     model={"dtype": "bf16"})
    run.prepare().train()
    expected = reference.train(model, reference.trained_names(model, config), [ids] * 5)
    assert run.losses() == pytest.approx(expected["losses"], rel=2e-2)
    fall = expected["losses"][0] - expected["losses"][-1]
    assert run.losses()[0] - run.losses()[-1] == pytest.approx(fall, rel=0.25)
