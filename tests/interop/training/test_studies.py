"""tools/study.py: what its tables say is what the runs' own files and transformers say."""

import json
import pathlib
import re
import statistics
import subprocess
import sys

import pytest
import torch
import yaml

import models
import runner

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDERS = {"token": "as_common", "random": "method=random", "full": "method=full",
           "lora": "rank=2_targets=__experts___method=lora"}
DOMAINS = ["even", "odd"]
RATES = [1e-3, 1e-2]
SEEDS = [1, 2]
ARMS = [{"name": "token", "set": {"esft.select.top_p": 0.3}},  # as the common recipe
        {"name": "random", "set": {"esft.select.method": "random"}},
        {"name": "full", "set": {"train.method": "full"}},
        {"name": "lora", "set": {"train.method": "lora", "lora.rank": 2,
                                 "lora.targets": ["experts"]}}]


def domain_ids(domain, count, seed):
    """Rows of 16 ids, all even or all odd: two domains that use different embeddings."""
    generator = torch.Generator().manual_seed(seed)
    ids = 2 * torch.randint(5, 75, (count, 16), generator=generator)
    return ids + DOMAINS.index(domain)


@pytest.fixture(scope="module")
def work(model_dir, tmp_path_factory):
    """A work folder with a base model, two domains, and studies of them."""
    folder = tmp_path_factory.mktemp("studies")
    (folder / "data").mkdir()
    for domain in DOMAINS:
        for part, count, seed in (("train", 16, 1), ("eval", 8, 2)):
            runner.write_rows(domain_ids(domain, count, seed),
                              folder / "data" / f"{domain}.{part}.jsonl")
    (folder / "common.yaml").write_text(yaml.safe_dump({
        "model": {"path": str(model_dir(models.shape("ds-lite"))), "dtype": "fp32"},
        "data": {"train": [{"path": "data/even.train.jsonl", "name": "train"}],
                 "eval": [{"path": f"data/{d}.eval.jsonl", "name": d} for d in DOMAINS],
                 "seq_len": 16, "loss_on": "all"},
        "esft": {"select": {"top_p": 0.3}},
        "train": {"global_batch": 4, "micro_batch": 4},
        "schedule": {"steps": 3},
        "eval": {"every": 0, "before_training": False},
        "checkpoint": {"every": 0},
        "output": "studies/common"}))
    return folder


def study(program, work, name, code=0, **keys):
    """Writes a study, runs it, and returns what it printed."""
    file = work / f"{name}.study.yaml"
    file.write_text(yaml.safe_dump({"title": f"Study {name}", "tasks": DOMAINS, **keys}))
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "study.py", file, "--work", work, "--sutor",
         program.path, "--jobs", "2"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def row(text, name, nth=0):
    """Cells of the table line that begins with `name`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in lines[nth].strip("|").split("|")][1:]


def test_a_comparison_says_what_its_runs_measured(program, work, model_dir):
    text = study(program, work, "arms", kind="compare", seeds=SEEDS, learning_rates=RATES,
                 arms=ARMS, reference="token")
    runs = work / "studies" / "runs"
    model = models.load(model_dir(models.shape("ds-lite")))
    for at, task in enumerate(DOMAINS):
        ids = domain_ids(task, 8, 2)[1::2]  # the reported half
        with torch.no_grad():
            logits = model(ids).logits[:, :-1].flatten(0, 1)
        base = float(torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()))
        for arm in ARMS:
            results = {(rate, seed): json.loads(
                (runs / "trainings" / f"{task}_{FOLDERS[arm['name']]}" / f"lr{rate:g}-seed{seed}" /
                 "result.json").read_text()) for rate in RATES for seed in SEEDS}
            best = min(RATES, key=lambda rate: statistics.fmean(
                results[rate, seed]["tuning"] for seed in SEEDS))
            change = statistics.fmean(results[best, seed]["losses"][task] - base for seed in SEEDS)
            cells = row(text, arm["name"], nth=3 * at)  # of three tables
            assert float(cells[1]) == best
            assert float(cells[2].split()[0]) == pytest.approx(change, abs=6e-4)
    assert (work / "studies" / "results" / "arms.png").stat().st_size > 10000
    stamps = {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}
    again = study(program, work, "arms", kind="compare", seeds=SEEDS, learning_rates=RATES,
                  arms=ARMS, reference="token")
    cut = re.compile("Took .*")
    assert cut.sub("", again) == cut.sub("", text)
    assert stamps == {path: path.stat().st_mtime_ns for path in runs.rglob("result.json")}


def test_a_changed_text_is_trained_on_anew(program, work):
    keys = {"kind": "sweep", "seeds": [1], "learning_rates": [1e-2], "arms": ARMS[:1],
            "tasks": ["odd"]}
    before = study(program, work, "sweep", **keys)
    runner.write_rows(domain_ids("odd", 16, 5), work / "data" / "odd.train.jsonl")
    after = study(program, work, "sweep", **keys)
    assert row(after, "token")[2] != row(before, "token")[2]


def test_overlap_is_of_the_selections(program, work):
    text = study(program, work, "overlap", kind="overlap", arms=ARMS[:1])
    chosen = []
    for task in DOMAINS:
        config = work / "studies" / "runs" / "selections" / f"{task}_as_common_0"
        experts = json.loads((config / "expert_config.json").read_text())["experts"]
        chosen.append({(layer, e) for layer, ids in experts.items() for e in ids})
    share = len(chosen[0] & chosen[1]) / len(chosen[0] | chosen[1])
    assert row(text, "even") == ["1.00", f"{share:.2f}", str(len(chosen[0]))]


def test_transfer_and_masks_measure_every_domain(program, work):
    text = study(program, work, "transfer", kind="transfer", seeds=[1], learning_rates=[1e-2],
                 arms=ARMS[:1])
    result = json.loads((work / "studies/runs/trainings/even_as_common/lr0.01-seed1/result.json")
                        .read_text())
    base = json.loads((work / "studies/runs/evaluations/base/evaluation.json").read_text())
    changes = [result["losses"][name] - base["base"]["sets"][f"{name}.test"]["loss"]
               for name in DOMAINS]
    assert [float(cell) for cell in row(text, "even")] == pytest.approx(changes, abs=6e-4)
    text = study(program, work, "mask", kind="mask", seeds=SEEDS, arms=ARMS[:1])
    masked = json.loads((work / "studies/runs/evaluations/odd_as_common_0/evaluation.json")
                        .read_text())
    changes = [masked["base"]["sets"][f"{name}.test"]["loss"] -
               base["base"]["sets"][f"{name}.test"]["loss"] for name in DOMAINS]
    assert [float(cell) for cell in row(text, "odd")[:2]] == pytest.approx(changes, abs=6e-4)


@pytest.mark.parametrize("keys,words", [
    ({"kind": "guess", "arms": ARMS}, ["kind", "compare"]),
    ({"kind": "overlap", "arms": [{"nam": "x"}]}, ["arms[0]"]),
    ({"kind": "compare", "arms": ARMS, "seed": [1]}, ["unknown seed"]),
    ({"kind": "compare", "arms": ARMS, "reference": "best"}, ["reference", "best"]),
    ({"kind": "sweep", "learning_rates": [1e-2],
      "arms": [{"name": "a", "set": {"esft.select.topp": 1}}]}, ["E0201", "topp"])])
def test_bad_studies_are_refused(program, work, keys, words):
    message = study(program, work, "bad", code=1, **keys)
    assert all(word in message for word in words), message
