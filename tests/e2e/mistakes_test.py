#!/usr/bin/env python3
"""What people get wrong, and what they are told: one message with the place and the remedy, the
exit code, and nothing half-written.

  mistakes_test.py SUTOR [unittest options]
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

SECONDS = 120  # the longest that one start may take
AT_ONCE = 2
LOCKS = (".lock", )

RECIPE = """\
model: {path: model, dtype: fp32}
data:
  train: [{path: train.jsonl, name: train}]
  seq_len: 64
  loss_on: all
esft:
  score: {tokens: 200}
  select: {method: token, top_p: 0.3}
optim: {lr: 1e-3}
schedule: {steps: 2}
train: {global_batch: 4, micro_batch: 2, threads: 1}
checkpoint: {every: 1}
log: {tensorboard: false}
output: run
"""
ROWS = "".join(json.dumps({"input_ids": [3 + (i * j) % 190 for j in range(1, 25)]}) + "\n"
               for i in range(1, 17))
LORA = {"base_model_name_or_path": "org/base", "peft_type": "LORA", "r": 8}


@dataclasses.dataclass
class Mistake:
    """A start that goes wrong. `recipe`: the whole file; `change`: pairs of what is replaced in
    RECIPE. `make(job)`: prepares the folder. `words`: what the message holds, the place among them.
    `left`: files under run/ that may be there afterwards."""

    name: str
    words: tuple
    code: int = 2
    change: tuple = ()
    recipe: str = None
    verb: str = "run"
    args: tuple = ()
    launcher: tuple = ()
    make: object = None
    env: dict = None
    left: tuple = ()
    file: str = "my.yaml"


def write(name, content):
    def make(job):
        path = job / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
    return make


def both(*makes):
    def make(job):
        for each in makes:
            each(job)
    return make


def pointer_model(job):
    """A model whose weights git-lfs has not fetched."""
    (job / "model").unlink()
    (job / "model").mkdir()
    shutil.copy(job / "../model/config.json", job / "model")
    (job / "model" / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 12345\n")


def dense_model(job):
    shutil.copytree(job / "../model", job / "dense")
    (job / "dense" / "config.json").write_text(json.dumps({"model_type": "llama"}))


def pickled_model(job):
    (job / "model").unlink()
    (job / "model").mkdir()
    shutil.copy(job / "../model/config.json", job / "model")
    (job / "model" / "pytorch_model-00001-of-00002.bin").write_bytes(b"PK")


def key(line, our, place="my.yaml:15:1", name=None):
    """A key of another trainer at the top of the recipe's end."""
    return Mistake(name or line.split(":")[0], (place, "E0201", f"is `{our}` here"),
                   recipe=RECIPE + line + "\n")


def model(path, *words, make=None, name=None):
    return Mistake(name or f"model.path {path}", ("my.yaml:1:15", "model.path", "E0300", *words),
                   code=3, change=(("path: model", f"path: {path}"),), make=make)


def value(old, new, *words, name=None):
    return Mistake(name or new, ("my.yaml:", "E0205", "expected", *words), change=((old, new),))


KEYS = [
    key("learning_rate: 1e-4", "optim.lr"),
    key("max_steps: 100", "schedule.steps"),
    key("num_epochs: 3", "schedule.epochs"),
    key("num_train_epochs: 3", "schedule.epochs"),
    key("per_device_train_batch_size: 2", "train.micro_batch"),
    key("gradient_accumulation_steps: 8", "train.global_batch"),
    key("batch_size: 8", "train.global_batch"),
    key("optimizer: adamw_torch", "optim.name"),
    key("warmup_ratio: 0.03", "schedule.warmup"),
    key("max_seq_length: 4096", "data.seq_len"),
    key("cutoff_len: 4096", "data.seq_len"),
    key("bf16: true", "model.dtype"),
    key("fp16: true", "model.dtype"),
    key("lora_r: 8", "lora.rank"),
    key("model_name_or_path: org/m", "model.path"),
    key("output_dir: out", "output"),
    key("save_steps: 10", "checkpoint.every"),
    key("logging_steps: 10", "log.every"),
    key("expert_model_parallel_size: 2", "parallel.ep"),
    key("micro_batch_size: 1", "train.micro_batch"),
    Mistake("weight_decay at the top", ("my.yaml:15:1", "write `optim.weight_decay`"),
            recipe=RECIPE + "weight_decay: 0.1\n"),
    Mistake("lora_dropout", ("my.yaml:15:1", "Leave it out"),
            recipe=RECIPE + "lora_dropout: 0.1\n"),
    Mistake("a key of another trainer in a section",
            ("my.yaml:9:9", "`optim.lr`"), change=(("{lr: 1e-3}", "{learning_rate: 1e-3}"),)),
    Mistake("misspelt key", ("my.yaml:4:3", "did you mean `seq_len`?"),
            change=(("seq_len", "seqlen"),)),
    Mistake("key twice", ("my.yaml:15:1", "E0207", "first at my.yaml:14:1"),
            recipe=RECIPE + "output: other\n"),
    Mistake("merge key", ("my.yaml:15:1", "base: other.yaml"), recipe=RECIPE + "<<: {a: b}\n"),
]

YAML = [
    Mistake("tab", ("my.yaml:4:1", "E0203", "a tab indents the line", "two spaces"),
            change=(("  seq_len", "\tseq_len"),)),
    Mistake("indentation", ("my.yaml:5:4", "E0203", "indented by 3 spaces"),
            change=(("  loss_on", "   loss_on"),)),
    Mistake("comma in a number", ("my.yaml:9:15", "E0201", "a decimal point is `.`"),
            change=(("{lr: 1e-3}", "{lr: 1,5e-2}"),)),
    Mistake("quote that is open", ("my.yaml:1:15", "E0203", "a quote"),
            change=(("path: model,", 'path: "model,'),)),
    Mistake("bracket that is open", ("my.yaml:9:8", "E0203", "a `{` begins here"),
            change=(("{lr: 1e-3}", "{lr: 1e-3"),)),
    Mistake("no space behind a colon", ("my.yaml:4:10", "E0203", "a space is missing"),
            change=(("seq_len: 64", "seq_len:64"),)),
    Mistake("no space behind a colon in braces", ("my.yaml:9:9", "write `lr: 1e-3`"),
            change=(("lr: 1e-3", "lr:1e-3"),)),
    Mistake("pattern without quotes", ("my.yaml:", "E0203", "quotes"),
            recipe=RECIPE.replace("esft:\n", "esft:\n  also_train: [*.gate]\n")),
    Mistake("merge that is not finished", ("my.yaml:15:1", "E0203", "git"),
            recipe=RECIPE + "<<<<<<< HEAD\nlog: {every: 1}\n=======\n>>>>>>> b\n"),
    Mistake("two documents", ("my.yaml:15:", "E0203", "a second YAML document"),
            recipe=RECIPE + "---\na: b\n"),
    Mistake("text that is no UTF-8", ("my.yaml", "E0203", "UTF-8", "iconv"),
            make=write("my.yaml", RECIPE.encode("utf-16"))),
    Mistake("no recipe there", ("none.yaml", "E0203"), file="none.yaml"),
]

VALUES = [
    value("lr: 1e-3", "lr: fast", "a number", "my.yaml:9:13"),
    value("steps: 2", "steps: 1k", "whole number", "my.yaml:10:19"),
    value("every: 1}", "every: 30min}", "whole number"),
    value("top_p: 0.3", "top_p: 20", "at most 1"),
    value("method: token", "method: tokens", "token, gate"),
    value("dtype: fp32", "dtype: fp16", "bf16"),
    Mistake("global_batch: 0", ("my.yaml:11:23", "E0205", "at least 1"),
            change=(("global_batch: 4", "global_batch: 0"),)),
    Mistake("min_lr above lr", ("E0205", "at most optim.lr"),
            change=(("{steps: 2}", "{steps: 2, min_lr: 2}"),)),
    Mistake("warm-up far beyond the run", ("E0205", "Shorten the warm-up"),
            verb="train", args=("--check", "--set", "train.method=full"), left=("tokens",),
            change=(("{steps: 2}", "{steps: 2, warmup: 90000}"),), make=lambda job: prepared(job)),
    Mistake("metric of a set that is not there", ("E0205", "eval.best"),
            recipe=RECIPE + "eval: {best: task.loss}\n"),
    Mistake("variable that is not set", ("my.yaml:14:9", "E0209", "NO_SUCH_VARIABLE"),
            change=(("output: run", "output: ${NO_SUCH_VARIABLE}/run"),)),
    Mistake("recipes that inherit from each other", ("E0208", "my.yaml -> "),
            recipe="base: other.yaml\n" + RECIPE, make=write("other.yaml", "base: my.yaml\n")),
    Mistake("model.path missing", ("my.yaml", "E0206", "model.path"),
            change=(("model: {path: model, dtype: fp32}", "model: {dtype: fp32}"),)),
]

MODELS = [
    model("org/Model-30B-A3B", "sutor fetches nothing", name="name of a model hub"),
    model("nope", "does not exist", "the folder in which sutor is started"),
    model("model.gguf", "GGUF", make=write("model.gguf", b"GGUF")),
    model("quants", "GGUF", make=write("quants/q4.gguf", b"GGUF")),
    model("adapter", "LoRA adapter", "org/base", "lora.init",
          make=write("adapter/adapter_config.json", json.dumps(LORA))),
    model("experts", "model.adapters", make=write("experts/expert_cfg.json", "{}")),
    model("onnx", "ONNX", make=write("onnx/model.onnx", b"x")),
    model("bins", "pickled weights", "safetensors", make=write("bins/pytorch_model.bin", b"PK")),
    model("trained", "sutor export", make=write("trained/checkpoints/LATEST", "step-1\n")),
    model("model/config.json", "it is a file. Name its folder"),
    model("empty", "it is empty", make=lambda job: (job / "empty").mkdir()),
    model("~other/model", "${HOME}"),
    Mistake("pickled weights beside config.json", ("E0301", "pickled weights", "safetensors"),
            code=3, make=pickled_model),
    Mistake("pointers of git-lfs", ("E0303", "git lfs pull"), code=3, make=pointer_model),
    Mistake("dense model", ("E0322", "llama", "deepseek_v2"), code=3,
            change=(("path: model", "path: dense"),),
            make=dense_model),
    Mistake("recipe from another folder",
            ("E0300", "there is sub/other: start it in sub"), code=3, file="sub/my.yaml",
            make=both(write("sub/my.yaml", RECIPE.replace("path: model", "path: other")),
                      write("sub/other/config.json", "{}"))),
]

DATA = [
    Mistake("rows that are not there", ("my.yaml:3:18", "E0331", "data.train[0].path",
                                        "none.jsonl does not exist"), code=3,
            change=(("train.jsonl", "none.jsonl"),)),
    Mistake("glob that matches nothing", ("my.yaml:3:18", "E0331", "no file is named like"), code=3,
            change=(("train.jsonl", "rows-*.jsonl"),)),
    Mistake("folder without rows", ("E0331", "holds no rows"), code=3,
            change=(("train.jsonl", "rows"),), make=lambda job: (job / "rows").mkdir()),
    Mistake("no rows", ("E0334", "holds no rows"), code=3, make=write("train.jsonl", "")),
    Mistake("rows that are no JSON", ("E0336", "train.jsonl:1"), code=3,
            make=write("train.jsonl", "prompt,answer\n" * 8)),
    Mistake("text without a tokenizer", ("E0338", "tokenizer"), code=3,
            make=write("train.jsonl", '{"text": "a"}\n' * 8)),
    Mistake("no data at all", ("my.yaml", "E0206", "data.train"), verb="prepare",
            change=(("  train: [{path: train.jsonl, name: train}]\n", ""),)),
    Mistake("ids beyond the vocabulary", ("E0330", ), code=3,
            make=write("train.jsonl", json.dumps({"input_ids": [10**6] * 9}) + "\n"),
            left=("tokens",)),
]

STARTS = [
    Mistake("ep 2 without mpiexec", ("E0211", "mpiexec -n 2 sutor", "this is one process"),
            args=("--set", "parallel.ep=2")),
    Mistake("ep 2 on three ranks", ("E0211", "mpiexec -n 2 sutor"),
            launcher=("mpiexec", "-n", "3"), args=("--set", "parallel.ep=2")),
    Mistake("ep that does not divide the experts", ("E0210", "Divisors that fit 1 rank"),
            args=("--set", "parallel.ep=3")),
    Mistake("tp that does not divide heads", ("E0213", "Sizes that do"),
            launcher=("mpiexec", "-n", "3"), args=("--set", "parallel.tp=3")),
    Mistake("peft export of trained experts", ("my.yaml:15:", "E0222", "adapter or merged"),
            recipe=RECIPE + "export: {format: [peft]}\n"),
    Mistake("peft export of pairs in experts", ("E0222", "lora.targets experts"),
            args=("--set", "train.method=lora", "--set", "lora.targets=[experts]", "--set",
                  "export.format=[peft]")),
    Mistake("unknown key in --set", ("E0201", "--set optim.learning_rate", "`optim.lr`"),
            args=("--set", "optim.learning_rate=1e-4")),
    Mistake("--set without a value", ("--set lr", "key=value"), args=("--set", "lr")),
    Mistake("--resume of run", ("E0202", "goes on with an unfinished training by itself"),
            args=("--resume",)),
    Mistake("misspelt option", ("E0202", "did you mean `--overwrite`?"), args=("--overwite",)),
    Mistake("key as an option", ("E0202", "--set KEY=VALUE", "optim.lr"), args=("--lr", "1e-4")),
    Mistake("key of another trainer as an option", ("E0202", "--set KEY=VALUE", "schedule.epochs"),
            args=("--num_train_epochs", "3")),
    Mistake("misspelt verb", ("E0202", "did you mean `train`?"), verb="trian"),
    Mistake("unknown verb", ("E0202", "finetune", "sutor --help"), verb="finetune"),
    Mistake("recipe without a verb", ("E0202", "sutor run my.yaml"), verb=""),
    Mistake("no recipe", ("E0202", "name a YAML file"), file=""),
    Mistake("variable of sutor", ("E0243", "SUTOR_COMM_TIMEOUT"), env={"SUTOR_COMM_TIMEOUT": "1h"}),
    Mistake("variable of progress", ("E0243", "SUTOR_PROGRESS_SECONDS"),
            env={"SUTOR_PROGRESS_SECONDS": "often"}),
    Mistake("expert config that is not there", ("E0219", "experts.json does not exist"),
            verb="train", recipe=RECIPE.replace("esft:\n", "esft:\n  config: experts.json\n"),
            make=lambda job: prepared(job), left=("tokens",)),
    Mistake("output that is a file", ("E0", "run"), code=None, make=write("run", "mine"),
            left=("",)),
    Mistake("output where nobody may write", ("/proc/none",), code=5,
            change=(("output: run", "output: /proc/none/run"),)),
    Mistake("eval without sets", ("E0206", "data.eval"), verb="eval"),
    Mistake("verify of something else", ("E0352", "does not know what"), code=3, verb="verify",
            make=write("notes.txt", "x"), file="notes.txt"),
]


def prepared(job):
    subprocess.run([SUTOR, "prepare", "my.yaml"], cwd=job, check=True, capture_output=True,
                   timeout=SECONDS)


class Mistakes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.scratch.name)
        subprocess.run([SUTOR, "init-model", "--family", "deepseek_v2", "--out",
                        cls.folder / "model"], check=True, capture_output=True, timeout=SECONDS)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def job(self, name):
        job = self.folder / name
        job.mkdir()
        (job / "model").symlink_to("../model")
        (job / "train.jsonl").write_text(ROWS)
        return job

    def start(self, job, *command, env=None):
        return subprocess.run(
            command, cwd=job, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=SECONDS, errors="replace",
            env=dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1") | (env or {}))

    def problems(self, number, mistake):
        """What is wrong with the answer to a mistake."""
        job = self.job(f"job-{number}")
        recipe = mistake.recipe or RECIPE
        for old, new in mistake.change:
            assert old in recipe, (mistake.name, old)
            recipe = recipe.replace(old, new, 1)
        (job / "my.yaml").write_text(recipe)
        if mistake.make:
            mistake.make(job)
        parts = [part for part in (mistake.verb, mistake.file) if part]
        done = self.start(job, *mistake.launcher, SUTOR, *parts, *mistake.args, env=mistake.env)
        found = [f"no `{word}`" for word in mistake.words if word not in done.stdout]
        if mistake.code is not None and done.returncode != mistake.code:
            found.append(f"exit code {done.returncode} instead of {mistake.code}")
        if done.returncode == 0:
            found.append("no failure")
        errors = re.findall(r"(?m)^\S.*error\[E|^error\[E", done.stdout)  # not of a list of rows
        if len(errors) != 1:
            found.append(f"{len(errors)} errors")
        found += [f"`{word}`" for word in ("Errno", "Traceback", "error[E7") if word in done.stdout]
        if len(done.stdout) > 1500:
            found.append(f"{len(done.stdout)} characters")
        found += [f"left {path}" for path in self.left(job, mistake.left)]
        return [f"{mistake.name}: {', '.join(found)}\n    {done.stdout.strip()}"] if found else []

    def left(self, job, allowed):
        """What a start left under run/ beside an empty folder and its lock."""
        run = job / "run"
        if not run.is_dir():
            return []
        paths = [str(path.relative_to(run)) for path in run.rglob("*") if not path.is_dir()]
        return [path for path in paths
                if path.split("/")[0] not in (*allowed, "stages.json", *LOCKS)]

    def check(self, mistakes, begin):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            numbers = range(begin, begin + len(mistakes))
            found = sum(pool.map(self.problems, numbers, mistakes), [])
        self.assertEqual(found, [], "\n" + "\n".join(found))

    def test_keys_of_other_trainers_are_translated(self):
        self.check(KEYS, 0)

    def test_yaml_that_is_none_is_explained(self):
        self.check(YAML, 100)

    def test_values_are_refused_with_what_is_expected(self):
        self.check(VALUES, 200)

    def test_models_that_are_none_are_recognised(self):
        self.check(MODELS, 300)

    def test_data_that_cannot_be_used_are_refused_with_their_place(self):
        self.check(DATA, 400)

    def test_starts_that_cannot_work_end_before_anything_costly(self):
        self.check(STARTS, 500)

    def test_there_are_enough_of_them(self):
        everything = KEYS + YAML + VALUES + MODELS + DATA + STARTS
        self.assertGreaterEqual(len(everything), 85)
        self.assertEqual(len({mistake.name for mistake in everything}), len(everything))

    def test_a_finished_training_is_not_begun_again_by_mistake(self):
        job = self.job("finished")
        (job / "my.yaml").write_text(RECIPE)
        done = self.start(job, SUTOR, "run", "my.yaml")
        self.assertEqual(done.returncode, 0, done.stdout)
        # The ledger of steps notes what was tried; it holds no results.
        before = {path: path.stat().st_mtime_ns for path in (job / "run").rglob("*")
                  if path.is_file() and path.name not in (*LOCKS, "stages.json")}
        for code, words, command in (
                (2, ("E0220", "--resume", "--overwrite"), ("train", "my.yaml")),
                (2, ("E0220", "--overwrite"), ("export", "my.yaml")),
                (2, ("E0221", "optim.lr"), ("train", "my.yaml", "--resume", "--set",
                                            "optim.lr=2e-3")),
                (3, ("E0301", "--checkpoint newest", "best, last"),
                 ("export", "my.yaml", "--overwrite", "--checkpoint", "newest"))):
            done = self.start(job, SUTOR, *command)
            for word in words:
                self.assertIn(word, done.stdout)
            self.assertEqual(done.returncode, code, done.stdout)
            self.assertEqual(done.stdout.count("error[E"), 1, done.stdout)
            changed = [path.name for path, time in before.items()
                       if path.stat().st_mtime_ns != time]
            self.assertEqual(changed, [], command)

    def test_steps_and_epochs_together_are_told(self):
        job = self.job("lengths")
        (job / "my.yaml").write_text(RECIPE.replace("{steps: 2}", "{steps: 2, epochs: 3}"))
        done = self.start(job, SUTOR, "run", "my.yaml")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("schedule.steps (my.yaml:10:19) and schedule.epochs (my.yaml:10:30) both",
                      done.stdout)


if __name__ == "__main__":
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1]).is_file():
        raise SystemExit(__doc__)
    SUTOR = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
