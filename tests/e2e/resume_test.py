#!/usr/bin/env python3
"""A training that was stopped, or whose checkpoints were damaged, goes on from the newest whole one
or is refused; it is never begun anew beside what is there. What it knew when it was stopped (best,
evaluations, logs) is right afterwards.

  .venv/bin/python tests/e2e/resume_test.py build/sutor build/libfaulty_calls.so [-v] [Class.test]
"""

import datetime
import json
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

import h5py
import recipes

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import jobs  # noqa: E402

SUTOR = FAULTS = None  # set by main
STAGES = ["prepare", "score", "select"]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class ResumeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-resume-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.prepared = cls.folder.job()
        for verb in STAGES:
            result = cls.folder.run(cls.prepared, command=cls.folder.command(verb=verb))
            assert result.code == 0, result
        cls.whole = cls.folder.job(like=cls.prepared)
        result = cls.folder.run(cls.whole)
        assert result.code == 0, result
        cls.stopped = cls.folder.job(like=cls.prepared)  # at step 4 of 6
        cls.folder.run_and_kill(cls.stopped, "saved step-00000004")

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def train(self, job, *options, faults=None, command=None):
        env = {"LD_PRELOAD": FAULTS, "FAULTY_CALLS": faults} if faults else None
        return self.folder.run(job, command=command or self.folder.command(*options, verb="train"),
                               env=env)

    def run_it(self, job, *options, faults=None):
        env = {"LD_PRELOAD": FAULTS, "FAULTY_CALLS": faults} if faults else None
        return self.folder.run(job, *options, env=env)

    def step(self, job, number):
        return job / "run" / "checkpoints" / f"step-{number:08}"

    def damage(self, step, name):
        at = 300
        if name.startswith("w") and name.endswith(".h5"):
            with h5py.File(step / name) as file:
                tiles = []
                file.visititems(lambda _, item: tiles.append(item.id.get_offset())
                                if isinstance(item, h5py.Dataset) else None)
                at = tiles[0]
        flip(step / name, at)

    def lines(self, job, name):
        return [json.loads(line) for line in (job / "run" / name).read_text().splitlines()]

    def check_same(self, job):
        """But for exports, which `train` does not make."""
        different = [name for name in recipes.differences(job, self.whole)
                     if not name.startswith("export/")]
        self.assertEqual(different, [])


class Damage(ResumeTest):
    @staticmethod
    def kept(tree):
        """Checkpoints and logs, which must outlast a refusal."""
        return {name: file for name, file in tree.items()
                if "/checkpoints/step-" in name or name.endswith(".jsonl")}

    def test_damage_in_any_file_of_the_newest_falls_back_and_its_step_is_saved_again(self):
        resume = lambda job: self.train(job, "--resume")  # noqa: E731
        for name, start in (("w0000.h5", resume), ("w0000.h5", self.run_it), ("w0000.idx", resume),
                            ("state.h5", self.run_it), ("MANIFEST.json", resume)):
            with self.subTest(name=name):
                job = self.folder.job(like=self.stopped)
                self.damage(self.step(job, 4), name)
                result = start(job)
                self.assertEqual(result.code, 0, result)
                self.assertRegex(result.err, f"W0341.*step-00000004.*{re.escape(name)}")
                self.assertEqual(result.err.count("W0341"), 1, result)
                self.assertIn("resumed at step 3 of 6", result.out)  # the best was saved there
                self.check_same(job)

    def test_a_finished_training_whose_last_checkpoint_is_damaged_is_not_valid(self):
        job = self.folder.job(like=self.whole)
        self.damage(self.step(job, 6), "w0000.h5")
        result = self.run_it(job)
        self.assertEqual(result.code, 0, result)
        self.assertIn("train", result.done)
        self.assertIn("resumed at step 4 of 6", result.out)
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_strict_does_not_fall_back(self):
        job = self.folder.job(like=self.stopped)
        self.damage(self.step(job, 4), "w0000.h5")
        before = recipes.tree(job)
        result = self.train(job, "--resume=strict")
        self.assertEqual(result.code, 3, result)
        self.assertIn("E0347", result.err)
        self.assertEqual(self.kept(recipes.tree(job)), self.kept(before))

    def test_with_all_damaged_nothing_is_begun_or_changed(self):
        for name in ("MANIFEST.json", "w0000.h5"):
            job = self.folder.job(like=self.stopped)
            for step in (job / "run" / "checkpoints").glob("step-*"):
                self.damage(step, name)
            before = recipes.tree(job)
            for result in (self.run_it(job), self.train(job, "--resume")):
                self.assertEqual(result.code, 3, result)
                for word in ("E0349", "sutor verify", "--overwrite", "another output"):
                    self.assertIn(word, result.err)
            self.assertEqual(self.kept(recipes.tree(job)), self.kept(before))

    def test_a_disk_that_does_not_answer_is_no_damage(self):
        for call, name in (("open", "MANIFEST.json"), ("open", "w0000.h5")):
            job = self.folder.job(like=self.stopped)
            checkpoints = self.kept(recipes.tree(job))
            for start in (self.run_it, lambda job, **k: self.train(job, "--resume", **k)):
                with self.subTest(name=name):
                    result = start(job, faults=f"{call}:step-00000004/{name}:1:e5:9")
                    self.assertEqual(result.code, 3, result)
                    self.assertIn("E0301", result.err)
                    self.assertNotIn("W0341", result.err)
                    self.assertEqual(self.kept(recipes.tree(job)), checkpoints)
            result = self.run_it(job)
            self.assertIn("resumed at step 4 of 6", result.out, result)
            self.check_same(job)

    def test_files_of_another_program_are_left_alone(self):
        job = self.folder.job(like=self.prepared)
        for name in ("checkpoints/epoch1.pt", "tensorboard/events.out.tfevents.1"):
            path = job / "run" / name
            path.parent.mkdir()
            path.write_text("precious")
        for result in (self.run_it(job), self.train(job, "--resume"), self.train(job)):
            self.assertEqual(result.code, 2, result)
            self.assertIn("E0220", result.err)
            self.assertEqual((job / "run/checkpoints/epoch1.pt").read_text(), "precious")
            self.assertEqual((job / "run/tensorboard/events.out.tfevents.1").read_text(),
                             "precious")

    def test_what_one_of_two_ranks_finds_damaged_all_pass_over(self):
        ranks = jobs.mpiexec(*self.folder.command("--set", "parallel.ep=2", verb="train"), ranks=2)
        job = self.folder.job(like=self.prepared)
        result = self.folder.run(job, command=ranks)
        self.assertEqual(result.code, 0, result)
        undisturbed = self.lines(job, "metrics.jsonl")
        self.damage(self.step(job, 6), "w0001.h5" if (self.step(job, 6) / "w0001.h5").exists()
                    else "w0000.h5")
        again = self.folder.run(job, command=[*ranks, "--resume"])
        self.assertEqual(again.code, 0, again)
        self.assertEqual(again.err.count("W0341"), 1, again)
        self.assertIn("resumed at step 4 of 6", again.out)
        self.assertEqual([line["loss"] for line in self.lines(job, "metrics.jsonl")],
                         [line["loss"] for line in undisturbed])


class BeforeTheFirstSave(ResumeTest):
    def killed(self):
        job = self.folder.job(like=self.prepared)
        self.folder.run_and_kill(job, "step 1/6")
        self.assertFalse(list((job / "run" / "checkpoints").glob("step-*")))
        return job

    def test_resume_begins_and_says_so(self):
        job = self.killed()
        result = self.train(job, "--resume")
        self.assertEqual(result.code, 0, result)
        self.assertIn("holds no checkpoint: starting from the beginning", result.out)
        self.check_same(job)
        self.assertEqual([line["step"] for line in self.lines(job, "metrics.jsonl")],
                         [1, 2, 3, 4, 5, 6])

    def test_run_begins_again(self):
        job = self.killed()
        result = self.run_it(job)
        self.assertEqual(result.code, 0, result)
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_without_resume_the_ways_out_are_named(self):
        job = self.killed()
        result = self.train(job)
        self.assertEqual(result.code, 2, result)
        for word in ("E0220", "before its first checkpoint", "--resume", "--overwrite",
                     "another output"):
            self.assertIn(word, result.err)

    def test_resume_of_nothing_at_all_begins(self):
        job = self.folder.job(like=self.prepared)
        self.assertEqual(self.train(job, "--resume").code, 0)
        self.check_same(job)


class Best(ResumeTest):
    def options(self, best="held.loss", **more):
        sets = {"data.eval": f"[{{path: {self.folder.path}/task.jsonl, name: held}}, "
                             f"{{path: {self.folder.path}/train.jsonl, name: other}}]",
                "eval.every": 1, "eval.before_training": "false", "eval.best": best,
                "checkpoint.every": 100, "checkpoint.keep": 9} | more
        return [x for key, value in sets.items() for x in ("--set", f"{key}={value}")]

    def prepared_job(self):
        job = self.folder.job(like=self.prepared)
        command = self.folder.command(*self.options(), verb="prepare")
        self.assertEqual(self.folder.run(job, command=command).code, 0)
        return job

    def best_step(self, job, set_name="held"):
        rows = [row for row in self.lines(job, "eval.jsonl") if row["set"] == set_name]
        return min((row["loss"], row["step"]) for row in rows)[1]

    def exported(self, job, *options):
        result = self.folder.run(job, command=self.folder.command(
            *options, "--format", "adapter", "--overwrite", verb="export"))
        self.assertEqual(result.code, 0, result)
        return int(re.search(r"checkpoint .*step-(\d+)", result.out).group(1))

    def check_complete(self, job):
        rows = [(row["step"], row["set"]) for row in self.lines(job, "eval.jsonl")]
        self.assertEqual(rows, [(step, name) for step in range(1, 7) for name in ("held", "other")])

    def test_a_kill_around_the_pointer_or_between_sets_loses_no_evaluation_and_no_best(self):
        for faults in ("rename:/BEST:1:kill", "rename:/LATEST:2:kill", "write:eval.jsonl:6:kill"):
            with self.subTest(faults=faults):
                job = self.prepared_job()
                killed = self.train(job, *self.options(), faults=faults)
                self.assertNotEqual(killed.code, 0, killed)
                if list((job / "run" / "checkpoints").glob("step-*")):
                    self.exported(job, *self.options())  # before it is resumed
                result = self.train(job, *self.options(), "--resume")
                self.assertEqual(result.code, 0, result)
                self.check_complete(job)
                best = self.best_step(job)
                pointer = (job / "run/checkpoints/BEST").read_text().strip()
                self.assertEqual(pointer, f"step-{best:08}")
                self.assertEqual(self.exported(job, *self.options()), best)

    def test_an_evaluation_that_is_missing_at_the_resumed_step_is_made(self):
        job = self.prepared_job()
        self.assertEqual(self.train(job, *self.options()).code, 0)
        whole = self.lines(job, "eval.jsonl")
        steps = sorted((job / "run" / "checkpoints").glob("step-*"))
        last = int(steps[-1].name[5:])
        path = job / "run" / "eval.jsonl"
        kept = [line for line in path.read_text().splitlines(True)
                if (json.loads(line)["step"], json.loads(line)["set"]) != (last, "other")]
        path.write_text("".join(kept))
        self.assertEqual(self.train(job, *self.options(), "--resume").code, 0)
        losses = lambda rows: sorted((r["step"], r["set"], r["loss"]) for r in rows)  # noqa: E731
        self.assertEqual(losses(self.lines(job, "eval.jsonl")), losses(whole))

    def test_another_metric_decides_from_now_on(self):
        job = self.prepared_job()
        first = self.options(**{"schedule.steps": 4, "checkpoint.every": 1})
        self.assertEqual(self.train(job, *first).code, 0)
        more = self.options(best="other.loss", **{"checkpoint.every": 1})
        result = self.train(job, *more, "--resume")
        self.assertEqual(result.code, 0, result)
        self.assertNotIn("best held.loss", result.out)
        best = self.best_step(job, "other")
        self.assertEqual((job / "run/checkpoints/BEST").read_text().strip(), f"step-{best:08}")
        self.assertEqual(self.exported(job, *more), best)
        self.assertIn(f"at step {best}", result.out)

    def test_a_key_that_must_not_change_names_the_ways_out(self):
        job = self.folder.job(like=self.stopped)
        result = self.train(job, "--resume", "--set", "optim.lr=2e-3")
        self.assertEqual(result.code, 2, result)
        for word in ("E0221", "optim.lr", "--overwrite", "another output", "fork"):
            self.assertIn(word, result.err)


class Logs(ResumeTest):
    def test_lines_tell_time_epoch_and_seconds(self):
        for line in self.lines(self.whole, "metrics.jsonl"):
            datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
            self.assertGreater(line["step_seconds"], 0)
            self.assertGreaterEqual(line["epoch"], 0)
        for line in self.lines(self.whole, "eval.jsonl"):
            datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
            self.assertGreater(line["eval_seconds"], 0)

    def test_what_a_crash_left_behind_the_resumed_step_is_cut_off(self):
        for tail in (b'{"step": 5, "lo', b"\0" * 700, b'\0\0{"step": 5}\n', b'{"step": 5}\n' * 3):
            job = self.folder.job(like=self.stopped)
            for name in ("metrics.jsonl", "eval.jsonl"):
                with (job / "run" / name).open("ab") as file:
                    file.write(tail)
            self.assertEqual(self.train(job, "--resume").code, 0)
            self.check_same(job)
            self.assertNotIn(b"\0", (job / "run/metrics.jsonl").read_bytes())

    def test_logs_are_synced_before_a_checkpoint_that_covers_them_is_published(self):
        job = self.folder.job(like=self.prepared)
        log = job / "calls"
        result = self.folder.run(job, command=self.folder.command(verb="train"), env={
            "LD_PRELOAD": FAULTS, "FAULTY_CALLS": "", "FAULTY_CALLS_LOG": str(log)})
        self.assertEqual(result.code, 0, result)
        written = {"metrics.jsonl": 0, "eval.jsonl": 0}  # lines
        synced, published = dict(written), 0
        for call in log.read_text().splitlines():
            verb, _, path = call.partition(" ")
            name = pathlib.Path(path).name
            if name in written and verb == "write":
                written[name] += 1
            if name in written and verb == "fsync":
                synced[name] = written[name]
            if verb in ("rename", "rename2") and name.startswith("step-"):
                published += 1
                step = int(name.removeprefix("step-"))
                self.assertGreaterEqual(synced["metrics.jsonl"], step, call)
                self.assertGreaterEqual(synced["eval.jsonl"], 1 + step // 3, call)
        self.assertEqual(published, 4)  # every 2 steps, and the best at step 3

    def test_a_full_disk_for_a_log_ends_the_job_after_the_training_is_saved(self):
        for log, tensorboard in (("metrics.jsonl", "false"), ("eval.jsonl", "false"),
                                 ("events.out", "true")):
            with self.subTest(log=log):
                job = self.folder.job(like=self.prepared)
                option = ("--set", f"log.tensorboard={tensorboard}")
                # In the first step, whose checkpoint is not due yet.
                result = self.train(job, *option, faults=f"write:{log}:3:e28")
                self.assertEqual(result.code, 5, result)
                self.assertRegex(result.err, rf"error\[E0501\].*the disk is full.*{log}")
                self.assertIn("--resume goes on", result.err)
                steps = sorted((job / "run" / "checkpoints").glob("step-*"))
                self.assertTrue(steps, result)
                self.assertEqual(self.train(job, *option, "--resume").code, 0)
                self.check_same(job)


def main():
    global SUTOR, FAULTS
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    SUTOR = sys.argv.pop(1)
    FAULTS = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
