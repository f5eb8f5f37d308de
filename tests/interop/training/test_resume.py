"""Killed and resumed trainings go on as if nothing had happened."""

import time

import pytest

import models
import runner

STEPS, TOKENS = 15, 150  # long enough for a kill to come in between


def make_run(program, model_dir, folder, name="ds-lite", **sections):
    """Batches of two of five rows, so that order, epochs and short batches matter too."""
    shape = models.shape(name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = runner.write_rows(models.sample_ids(shape, 5, TOKENS, seed=2), folder / "rows.jsonl")
    config = models.pick_experts(models.build(shape))
    sections = {"train": {"global_batch": 2}, "checkpoint": {"every": 3, "keep": 9},
                "data": {"seq_len": TOKENS},
                "schedule": {"name": "cosine", "warmup": 2, "steps": STEPS}} | sections
    run = runner.Run(program, folder, model_dir(shape), rows, config, **sections)
    return run.prepare()


def kill_after(process, run, step, timeout=60):
    """SIGKILLs a started training and all its ranks once a step's line is there."""
    path, until = run.output / "metrics.jsonl", time.monotonic() + timeout
    try:
        while time.monotonic() < until and process.poll() is None:
            if path.exists() and path.read_text().count("\n") >= step:
                break
            time.sleep(0.002)
    finally:
        runner.stop(process)
        output, _ = process.communicate()
    assert step <= len(run.metrics()) < STEPS, f"it was not killed in its midst: {output}"


def cut_back(run, step):
    """Leaves of a finished run what a crash after `step` would leave."""
    lines = (run.output / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.output / "metrics.jsonl").write_text("".join(lines[:step]))
    for path in run.checkpoints():
        if int(path.name.split("-")[1]) > step:
            runner.shutil.rmtree(path)


@pytest.mark.parametrize("name", ["ds-lite", "qw-gqa"])
def test_resume_after_a_kill_is_bit_equal(program, model_dir, tmp_path, name):
    whole = make_run(program, model_dir, tmp_path / "whole", name)
    whole.train()
    broken = make_run(program, model_dir, tmp_path / "broken", name)
    process = program.start("train", broken.recipe, nice=5)
    kill_after(process, broken, step=5)
    broken.train("--resume")
    assert broken.losses() == whole.losses()
    assert [l["grad_norm"] for l in broken.metrics()] == [l["grad_norm"] for l in whole.metrics()]
    ours, theirs = (runner.read_tensors(run.export()[0]) for run in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert all((ours[n] == theirs[n]).all() for n in ours)


@pytest.mark.parametrize("ep,replicas", [(2, 1), (1, 2), (2, 2)])
def test_resume_of_ranks_after_a_kill_is_bit_equal(program, model_dir, tmp_path, ep, replicas):
    whole = make_run(program, model_dir, tmp_path / "whole")
    whole.train(ranks=ep * replicas, ep=ep)
    broken = make_run(program, model_dir, tmp_path / "broken")
    process = program.start("train", broken.recipe, "--set", f"parallel.ep={ep}",
                            ranks=ep * replicas, nice=5)
    kill_after(process, broken, step=5)
    broken.train("--resume", ranks=ep * replicas, ep=ep)
    assert broken.losses() == whole.losses()


@pytest.mark.parametrize("before,after", [((1, 1), (2, 2)), ((2, 2), (4, 1)), ((4, 1), (1, 1)),
                                          ((1, 2), (2, 1))],
                         ids=lambda l: f"{l[0]}x{l[1]}")
def test_resume_at_another_layout(program, model_dir, tmp_path, before, after):
    run = make_run(program, model_dir, tmp_path / "run")
    run.train(ranks=before[0] * before[1], ep=before[0])
    whole = run.losses()
    cut_back(run, 6)
    run.train("--resume", ranks=after[0] * after[1], ep=after[0])
    assert run.losses()[:6] == whole[:6]
    assert run.losses() == pytest.approx(whole, rel=1e-5)


def test_two_whole_runs_are_bit_equal(program, model_dir, tmp_path):
    """Same input, same bits, on one rank and on four."""
    for ranks, ep in [(1, 1), (4, 2)]:
        losses = []
        for i in range(2):
            run = make_run(program, model_dir, tmp_path / f"{ranks}-{i}")
            run.train(ranks=ranks, ep=ep)
            losses.append(run.losses())
        assert losses[0] == losses[1]


def test_size_of_a_checkpoint(program, model_dir, tmp_path):
    """Bytes <= 1.02 x 12 bytes x trained parameters + 1 KiB a tile + 1 MiB."""
    for ranks, ep in [(1, 1), (4, 2)]:
        run = make_run(program, model_dir, tmp_path / str(ranks))
        run.train(ranks=ranks, ep=ep)
        adapter = runner.read_tensors(run.export()[0])
        trained = sum(t.numel() for t in adapter.values())
        tiles = 3 * len(adapter) * 2  # tensors this small are one tile a kind, two when split
        for checkpoint in run.checkpoints():
            size = sum(f.stat().st_size for f in checkpoint.rglob("*") if f.is_file())
            assert size <= 1.02 * 12 * trained + 1024 * tiles + 2**20
            assert size >= 12 * trained
