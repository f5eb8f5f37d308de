#!/usr/bin/env python3
"""The output folder: one job at a time, nothing lost by --overwrite, nothing outside touched, the
modes that the umask asks for, no leftovers.

  .venv/bin/python tests/e2e/output_folder_test.py build/sutor NO_FLOCK_LIBRARY [-v] [Class.test]...
"""

import json
import os
import pathlib
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
import unittest

import recipes

SUTOR, NO_FLOCK = None, None  # set by main
LONG = ("--set", "schedule.steps=100000", "--set", "checkpoint.every=0", "--set", "eval.every=0")


class OutputTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-e2e-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.whole = cls.folder.job()
        first = cls.folder.run(cls.whole)
        if first.code != 0:
            raise AssertionError(first)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def run_verb(self, job, verb, *options, env=None, code=0, error=None, words=()):
        result = self.folder.run(job, command=self.folder.command(*options, verb=verb), env=env)
        self.assertEqual(result.code, code, result)
        if error is not None:
            self.assertEqual(len(result.errors()), 1, result)
            self.assertIn(f"error[{error}]", result.errors()[0], result)
        for word in words:
            self.assertIn(word, result.err, result)
        return result

    def job_with_data(self):
        """Everything but a training."""
        job = self.folder.job(like=self.whole)
        for name in ("checkpoints", "export", "metrics.jsonl", "eval.jsonl", "stages.json",
                     "recipe.resolved.yaml", "run_record.json", "plan.json", "receipt.json",
                     "report.html"):
            path = job / "run" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return job

    def start_training(self, job, *options, env=None, command=None):
        """A training that has come to its first step and does not end by itself."""
        command = command or self.folder.command(*LONG, *options, verb="train")
        process = self.folder.start(command, job, env)
        self.addCleanup(self.end, process)
        for line in process.stdout:
            if line.startswith("step 1/"):
                return process
        raise AssertionError(process.stderr.read())

    def end(self, process):
        recipes.kill(process)
        process.communicate()


class OneJob(OutputTest):
    VERBS = (("run", ), ("run", "--overwrite"), ("train", ), ("train", "--resume"),
             ("train", "--overwrite"), ("prepare", ), ("score", ), ("select", ), ("export", ),
             ("eval", ), ("generate", "--ids", "ids.json", "--out", "run/new.json"))

    def check_refused(self, job, process, env=None):
        for verb, *options in self.VERBS:
            self.run_verb(job, verb, *options, env=env, code=4, error="E0401",
                          words=(f"process {process.pid} of host", "sutor train"))
        self.assertIsNone(process.poll())

    def test_every_verb_that_writes_there_names_the_job_that_does(self):
        job = self.job_with_data()
        before = recipes.tree(job)
        process = self.start_training(job)
        self.check_refused(job, process)
        elsewhere = ("--checkpoint", "none", "--format", "merged", "--out", "elsewhere")
        self.run_verb(job, "export", *elsewhere)  # reads alone
        self.end(process)
        after = recipes.tree(job)
        for path, content in before.items():
            self.assertEqual(after[path], content, path)

    def test_without_locks_of_the_file_system_too(self):
        job = self.job_with_data()
        env = {"LD_PRELOAD": NO_FLOCK}
        process = self.start_training(job, env=env)
        self.check_refused(job, process, env)
        self.end(process)
        self.run_verb(job, "select", env=env, words=("warning[W0221]", f"process {process.pid} of"))

    def test_the_lock_of_a_dead_job_is_taken_over_and_that_is_said(self):
        job = self.job_with_data()
        process = self.start_training(job)
        self.end(process)
        self.run_verb(job, "train", "--overwrite",
                      words=("warning[W0221]", f"process {process.pid} of host"))
        self.assertNotIn("W0221", self.run_verb(job, "export").err)
        self.assertFalse((job / "run" / ".lock").exists())

    def test_copies_of_one_start_collide_at_once(self):
        job = self.job_with_data()
        ended = [self.folder.start(self.folder.command(verb="train"), job) for _ in range(4)]
        texts = [process.communicate(timeout=recipes.SECONDS) for process in ended]
        codes = sorted(process.returncode for process in ended)
        self.assertEqual(codes.count(4), 3, texts)
        self.assertEqual(codes.count(0), 1, texts)
        self.assertEqual(len((job / "run" / "metrics.jsonl").read_text().splitlines()), 6)

    def test_all_ranks_of_the_second_job_end_with_one_message(self):
        job = self.job_with_data()
        process = self.start_training(job)
        command = ["mpiexec", "-n", "2", *self.folder.command("--resume", verb="train")]
        result = self.folder.run(job, command=command)
        self.assertEqual(result.code, 4, result)
        self.assertEqual(len(result.errors()), 1, result)
        self.assertIn("E0401", result.err)

    def test_a_python_step_that_outlives_the_job_does_not_hold_the_lock(self):
        job = self.folder.job()
        script = job / "python"
        script.write_text("#!/bin/sh\necho started\nexec sleep 600\n")
        script.chmod(0o755)
        process = self.folder.start(self.folder.command(verb="prepare"), job,
                                    {"SUTOR_PYTHON": str(script)})
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), "started\n")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        self.run_verb(job, "prepare", words=("W0221", ))


class Overwrite(OutputTest):
    def setUp(self):
        self.job = self.folder.job(like=self.whole)
        self.before = recipes.tree(self.job)

    def check_kept(self, but="nothing"):
        after = recipes.tree(self.job)
        changed = [path for path in self.before.keys() | after.keys()
                   if self.before.get(path) != after.get(path) and not path.endswith("/" + but)]
        self.assertEqual(changed, [])
        self.assertEqual([path.name for path in (self.job / "run").glob(".*")], [])

    def check_refused(self, *options):
        for verb in ("train", "run"):
            command = self.folder.command("--overwrite", *options, verb=verb)
            result = self.folder.run(self.job, command=command)
            self.assertNotEqual(result.code, 0, result)
            self.assertEqual(len(result.errors()), 1, result)
            self.check_kept()

    def test_a_typo_in_the_recipe_costs_nothing(self):
        for setting in ("optim.lr=fast", "optim.rate=1e-5", "optim.name=adamx"):
            self.check_refused("--set", setting)

    def test_a_layout_that_does_not_fit_costs_nothing(self):
        self.check_refused("--set", "parallel.ep=2")

    def test_a_model_that_cannot_be_loaded_costs_nothing(self):
        self.check_refused("--set", "model.path=nowhere")
        broken = self.job / "broken"
        shutil.copytree(self.folder.path / "model", broken)
        weights = next(broken.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-100])
        self.check_refused("--set", f"model.path={broken}")

    def test_data_that_cannot_be_read_cost_nothing(self):
        store = self.job / "run" / "tokens" / "train.tokens.h5"
        store.write_bytes(store.read_bytes()[:500])
        self.before = recipes.tree(self.job)
        result = self.run_verb(self.job, "train", "--overwrite", code=3)
        self.assertEqual(len(result.errors()), 1, result)
        self.check_kept()

    def test_a_failure_before_the_first_checkpoint_puts_the_old_one_back(self):
        result = self.run_verb(self.job, "train", "--overwrite", "--set", "optim.lr=1e30", "--set",
                               "optim.clip=0", "--set", "checkpoint.every=6", "--set",
                               "eval.every=6", "--set", "eval.before_training=false", code=7)
        self.assertIn("is back in run", result.err)
        (self.job / "run/diverged.json").unlink()  # that of the new one is for its user
        self.check_kept("stages.json")  # in which `run` had noted the old one

    def test_a_kill_before_the_first_checkpoint_puts_the_old_one_back(self):
        process = self.start_training(self.job, "--overwrite", "--set",
                                      "eval.before_training=false")
        aside = list((self.job / "run").glob(".replaced-*"))
        self.assertEqual(len(aside), 1)
        self.assertEqual(list((self.job / "run").glob("checkpoints/step-*")), [])
        self.end(process)
        self.run_verb(self.job, "train", code=2, error="E0220",
                      words=("is back in run", "W0221"))
        self.check_kept("stages.json")  # in which `run` had noted the old one

    def test_the_old_one_goes_when_the_new_one_has_a_checkpoint(self):
        result = self.run_verb(self.job, "train", "--overwrite", "--set", "train.seed=7")
        self.assertIn("replaced", result.err + result.out)
        self.assertEqual(list((self.job / "run").glob(".*")), [])
        old, new = (recipes.results(job)["metrics"] for job in (self.whole, self.job))
        self.assertEqual(len(new), 6)
        self.assertNotEqual([line["loss"] for line in new], [line["loss"] for line in old])

    def test_a_finished_run_is_trained_and_exported_again(self):
        result = self.folder.run(self.job, "--overwrite")
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.done, ["train", "export"], result)
        self.assertEqual(recipes.differences(self.job, self.whole), [])

    def test_files_of_another_program_are_neither_deleted_nor_moved(self):
        for name in ("checkpoints/epoch1.pt", "tensorboard/events.out.tfevents.1",
                     "checkpoints/step-00000006/model.pt"):
            path = self.job / "run" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("precious")
            self.before = recipes.tree(self.job)
            for verb in ("train", "run"):
                self.run_verb(self.job, verb, "--overwrite", code=2, error="E0220", words=(name, ))
            self.check_kept()
            path.unlink()

    def test_a_new_run_leaves_the_folders_of_another_program_alone(self):
        for name in ("checkpoints/epoch1.pt", "tensorboard/events.out.tfevents.1",
                     "metrics.jsonl"):
            job = self.job_with_data()
            path = job / "run" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("precious")
            for verb in ("train", "run"):
                self.run_verb(job, verb, code=2, error="E0220", words=(name, ))
            self.assertEqual(path.read_text(), "precious")


class Outside(OutputTest):
    def test_links_out_of_the_output_are_not_followed(self):
        for name in ("checkpoints", "tensorboard", "tokens", "export", "evaluation",
                     "metrics.jsonl", "recipe.resolved.yaml", "checkpoints/LATEST", "stages.json"):
            job = self.folder.job(like=self.whole)
            path = job / "run" / name
            outside = job / "outside"
            if path.exists():
                path.rename(outside)
            elif path.suffix:
                outside.write_text("precious")
            else:
                outside.mkdir()
            (outside / "precious" if outside.is_dir() else job / "precious").write_text("precious")
            path.symlink_to(outside)
            before = recipes.tree(job) | {str(p): p.read_bytes() for p in job.rglob("precious")}
            for verb, *options in (("run", "--overwrite"), ("train", "--overwrite"),
                                   ("train", "--resume")):
                self.run_verb(job, verb, *options, code=2, error="E0220",
                              words=(name, "symbolic link to", "outside"))
            after = recipes.tree(job) | {str(p): p.read_bytes() for p in job.rglob("precious")}
            self.assertEqual(after, before)

    def test_outputs_replace_plain_files_only_and_that_is_said_before_anything_is_read(self):
        job = self.folder.job(like=self.whole)
        (job / "ids.json").write_text("[[3, 4, 5]]")
        (job / "precious").write_text("precious")
        (job / "link").symlink_to("precious")
        os.mkfifo(job / "fifo")
        (job / "folder").mkdir()
        kinds = {"link": "symbolic link", "fifo": "FIFO", "folder": "folder"}
        if os.geteuid() == 0:
            try:
                os.mknod(job / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
                kinds["null"] = "device"
            except PermissionError:
                pass
        model = str(self.folder.path / "model")
        commands = [
            ["generate", "--model", model, "--ids", "ids.json", "--out"],
            ["generate", "--model", model, "--prompts", "nowhere.jsonl", "--out"],
            ["logits", "--model", model, "--ids", "ids.json", "--out"],
            ["select", "--scores", "run/scores.h5", "--out"],
            ["select", "--scores", "run/scores.h5", "--out", "new.json", "--heat-map"],
            ["eval", "--completions", "nowhere.jsonl", "--scorer", "exact", "--out"],
        ]
        def look(name):
            status = os.lstat(job / name)
            return status.st_ino, status.st_mode, status.st_rdev, status.st_mtime_ns

        for name, kind in kinds.items():
            before = look(name)
            for command in commands:
                result = self.folder.run(job, command=[self.folder.sutor, *command, name])
                self.assertEqual(result.code, 2, result)
                self.assertRegex(result.err, rf"error\[E0220\]: .*{name} is a {kind}")
            self.assertEqual(look(name), before)
        self.assertEqual((job / "precious").read_text(), "precious")
        self.assertFalse((job / "new.json").exists())

    def test_nothing_is_left_beside_the_completions(self):
        job = self.folder.job()
        (job / "ids.json").write_text("[[3, 4, 5]]")
        (job / "out.json").write_text("old")
        command = [self.folder.sutor, "generate", "--model", str(self.folder.path / "model"),
                   "--ids", "ids.json", "--out", "out.json", "--set", "generate.max_new_tokens=2"]
        self.assertEqual(self.folder.run(job, command=command).code, 0)
        self.assertEqual(len(json.loads((job / "out.json").read_text())), 1)
        self.assertEqual(sorted(path.name for path in job.iterdir()), ["ids.json", "out.json"])


class Modes(OutputTest):
    def test_files_and_folders_have_the_modes_that_the_umask_leaves(self):
        for mask in (0o000, 0o027):
            job = self.folder.job()
            command = ["sh", "-c", f'umask {mask:04o} && exec "$0" "$@"',
                       *self.folder.command("--set", "log.tensorboard=true")]
            result = self.folder.run(job, command=command)
            self.assertEqual(result.code, 0, result)
            seen = 0
            for path in [job / "run", *(job / "run").rglob("*")]:
                wanted = (0o777 if path.is_dir() else 0o666) & ~mask
                self.assertEqual(stat.S_IMODE(path.stat().st_mode), wanted, path)
                seen += 1
            self.assertGreater(seen, 25)


class Exports(OutputTest):
    def test_an_export_that_fails_leaves_the_old_one(self):
        job = self.folder.job(like=self.whole)
        for data in (job / "run" / "checkpoints").glob("step-*/w0000.h5"):
            content = bytearray(data.read_bytes())
            for at in range(len(content) // 8, len(content), 1000):
                content[at] ^= 1
            data.write_bytes(content)
        before = recipes.tree(job)
        result = self.folder.run(job, command=self.folder.command("--overwrite", verb="export"))
        self.assertEqual(result.code, 3, result)
        self.assertEqual(recipes.tree(job), before)
        self.assertEqual(sorted(path.name for path in (job / "run" / "export").iterdir()),
                         ["adapter", "merged"])

    def test_what_a_killed_export_left_is_removed_by_the_next(self):
        job = self.folder.job(like=self.whole)
        exports = job / "run" / "export"
        ended = self.folder.start(["true"], job)
        ended.communicate()
        staging = exports / ".staging-merged.0123456789abcdef"
        (staging / "content").mkdir(parents=True)
        (staging / "content" / "model.safetensors").write_text("half")
        host, boot = os.uname().nodename, pathlib.Path("/proc/sys/kernel/random/boot_id")
        (staging / "OWNER").write_text(json.dumps(
            {"host": host, "boot_id": boot.read_text().strip(), "pid": ended.pid}))
        (exports / ".trash-adapter.0123456789abcdef").mkdir()
        self.run_verb(job, "export", "--overwrite")
        self.assertEqual(sorted(path.name for path in exports.iterdir()), ["adapter", "merged"])

    def test_overwrite_replaces_an_export_and_nothing_else(self):
        job = self.folder.job(like=self.whole)
        self.run_verb(job, "export", code=2, error="E0220", words=("--overwrite", ))
        (job / "mine" / "adapter").mkdir(parents=True)
        (job / "mine" / "adapter" / "precious").write_text("precious")
        self.run_verb(job, "export", "--overwrite", "--out", "mine", code=2, error="E0220",
                      words=("mine/adapter", "not replaced"))
        self.assertEqual((job / "mine" / "adapter" / "precious").read_text(), "precious")
        self.run_verb(job, "export", "--overwrite", "--verify")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    SUTOR, NO_FLOCK = sys.argv.pop(1), str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
