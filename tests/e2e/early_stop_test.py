#!/usr/bin/env python3
"""train.early_stop ends a training when its evaluations do not get better, at the same step however
often it was stopped and on however many ranks; and the best is that of any metric.

  .venv/bin/python tests/e2e/early_stop_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import sys
import tempfile
import unittest

import recipes
import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import jobs  # noqa: E402

SUTOR = None  # set by main


def options_of(*sets):
    return [word for key in sets for word in ("--set", key)]


# No evaluation is better than the one before training by so much: due at the second one, step 4.
STOPS = ("train.early_stop={metric: task.loss, patience: 2, min_delta: 100}", "eval.every=2",
         "schedule.steps=12")


class EarlyStopTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-early-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.prepared = cls.folder.job()
        for verb in ("prepare", "score", "select"):
            result = cls.folder.run(cls.prepared, command=cls.folder.command(verb=verb))
            assert result.code == 0, result
        # Rows that training makes likelier: the task is learned.
        cls.whole = cls.folder.job(like=cls.prepared)
        cls.first = cls.folder.run(cls.whole, *options_of(*STOPS))

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def verb(self, job, verb, *options):
        return self.folder.run(job, command=self.folder.command(*options, verb=verb))

    def steps(self, job):
        lines = (job / "run/metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]


class AnEarlyStop(EarlyStopTest):
    def test_is_said_saved_and_complete(self):
        self.assertIn("stop     early: task.loss, 2 evaluations", self.first.out)
        self.assertIn("early stop at step 4 of 12: task.loss did not get better by more than 100 "
                      "in 2 evaluations", self.first.out)
        self.assertEqual(self.steps(self.whole), [1, 2, 3, 4])
        self.assertTrue((self.whole / "run/checkpoints/step-00000004/MANIFEST.json").is_file())
        # The run goes on with the best; or says that there is none, when the base is it.
        if self.first.code == 0:
            self.assertIn("export", self.first.done)
        else:
            self.assertEqual(self.first.code, 1, self.first)
            self.assertIn("E0104", self.first.err)

    def test_is_a_training_that_has_ended_for_the_next_start(self):
        again = self.folder.run(self.whole, *options_of(*STOPS))
        self.assertIn("train", again.skipped, again)
        resumed = self.verb(self.folder.job(like=self.whole), "train", "--resume",
                            *options_of(*STOPS))
        self.assertEqual(resumed.code, 0, resumed)
        self.assertIn("early stop at step 4 of 12", resumed.out)
        self.assertNotIn("step 5/12", resumed.out)

    def test_comes_at_the_same_step_after_a_kill(self):
        for line in ("step 3/12", "saved step-00000004"):
            with self.subTest(line=line):
                job = self.folder.job(like=self.prepared)
                command = self.folder.command(*options_of(*STOPS), verb="train")
                self.folder.run_and_kill(job, line, command=command)
                result = self.verb(job, "train", "--resume", *options_of(*STOPS))
                self.assertEqual(result.code, 0, result)
                self.assertIn("early stop at step 4 of 12", result.out)
                for name in ("metrics.jsonl", "eval.jsonl"):
                    keys = ("step", "loss", "set")
                    self.assertEqual(recipes.lines_of(job / "run" / name, keys),
                                     recipes.lines_of(self.whole / "run" / name, keys))

    def test_comes_at_the_same_step_on_two_ranks(self):
        job = self.folder.job(like=self.prepared)
        command = jobs.mpiexec(*self.folder.command(*options_of(*STOPS, "parallel.ep=2"),
                                                    verb="train"), ranks=2)
        result = self.folder.run(job, command=command)
        self.assertEqual(result.code, 0, result)
        self.assertIn("early stop at step 4 of 12", result.out)
        self.assertEqual(self.steps(job), [1, 2, 3, 4])

    def test_that_is_switched_off_later_lets_the_training_go_on(self):
        job = self.folder.job(like=self.whole)
        result = self.verb(job, "train", "--resume",
                           *options_of(*STOPS, "train.early_stop=null", "schedule.steps=6"))
        self.assertEqual(result.code, 0, result)
        self.assertIn("resumed at step 4 of 6", result.out)
        self.assertEqual(self.steps(job), [1, 2, 3, 4, 5, 6])

    def test_does_not_come_while_evaluations_get_better(self):
        job = self.folder.job(like=self.prepared)
        rule = "train.early_stop={metric: task.loss, patience: 3}"
        result = self.verb(job, "train", *options_of(rule, "eval.every=2"))
        self.assertEqual(result.code, 0, result)
        self.assertEqual(self.steps(job), [1, 2, 3, 4, 5, 6])

    def test_needs_a_metric_that_is_measured(self):
        for sets, words in ((("train.early_stop={metric: task.rouge_l}",), ("task.ppl",)),
                            (("train.early_stop={metric: task.loss}", "eval.every=0"),
                             ("eval.every",)),
                            (("train.early_stop={patience: 2}",), ("metric",)),
                            (("eval.best=general.loss",), ("task.loss", "task.exact_match"))):
            with self.subTest(sets=sets):
                result = self.verb(self.folder.job(), "train", *options_of(*sets))
                self.assertEqual(result.code, 2, result)
                self.assertEqual(len(result.errors()), 1, result)
                for word in words:
                    self.assertIn(word, result.errors()[0])


class TheBest(EarlyStopTest):
    def best(self, job, metric, better):
        """The step that is best by eval.jsonl; the first of equal ones."""
        lines = [line for line in map(json.loads, (job / "run/eval.jsonl").read_text().splitlines())
                 if line["step"] > 0]
        values = [line[metric] for line in lines]
        return lines[values.index(better(values))]["step"]

    def test_is_that_of_any_metric(self):
        for metric, better in (("ppl", min), ("token_acc", max), ("exact_match", max)):
            with self.subTest(metric=metric):
                job = self.folder.job(like=self.prepared)
                result = self.verb(job, "train", *options_of(f"eval.best=task.{metric}",
                                                             "eval.every=1", "optim.lr=1e-2",
                                                             "checkpoint.keep=9"))
                self.assertEqual(result.code, 0, result)
                step = self.best(job, metric, better)
                self.assertEqual((job / "run/checkpoints/BEST").read_text().strip(),
                                 f"step-{step:08}")
                self.assertIn(f"best task.{metric} ", result.out)


class AScore(unittest.TestCase):
    """Of completions, which are generated in every evaluation when it decides."""

    def test_may_decide_which_is_the_best_and_when_to_stop(self):
        with tempfile.TemporaryDirectory(prefix="sutor-score-") as path:
            folder = recipes.Folder(SUTOR, path)
            model = folder.path / "model"
            size = json.loads((model / "config.json").read_text())["vocab_size"]
            tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(
                {f"w{i}": i for i in range(size)}, unk_token="w0"))
            tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
            tokenizer.save(str(model / "tokenizer.json"))
            rows = folder.path / "answers.jsonl"
            answers = [{"prompt": f"w{i} w7", "completion": "not so"} for i in range(3, 9)]
            rows.write_text("".join(json.dumps(row) + "\n" for row in answers))
            job = folder.job()
            result = folder.run(job, *options_of(
                f"data.eval=[{{path: {rows}, name: task, scorer: exact}}]", "eval.best=task.exact",
                "train.early_stop={metric: task.exact, patience: 2}", "eval.every=2",
                "schedule.steps=12", "generate.max_new_tokens=4"))
            self.check_stopped(job, result)

    def check_stopped(self, job, result):
        lines = list(map(json.loads, (job / "run/eval.jsonl").read_text().splitlines()))
        self.assertEqual([(line["step"], line["exact"]) for line in lines],
                         [(0, 0.0), (2, 0.0), (4, 0.0)], result)
        self.assertIn("early stop at step 4 of 12: task.exact", result.out)
        self.assertIn("best task.exact 0.000000 at step 2", result.out)
        self.assertEqual(len((job / "run/evaluation/training/task.jsonl").read_text().splitlines()),
                         6)
        self.assertEqual(result.code, 1, result)  # no better than the base, which is said
        self.assertIn("no evaluation beat the base: task.exact", result.errors()[0])


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
