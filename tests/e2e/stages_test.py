#!/usr/bin/env python3
"""What a stage made counts as valid only while it was made from these inputs by this recipe: `run`
makes it again and says why, the verbs that run one stage refuse, and nothing that a training was
made of is replaced under it.

  .venv/bin/python tests/e2e/stages_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import shutil
import sys
import tempfile
import unittest

import h5py
import recipes
import tokenizers
from recipes import STEPS

SUTOR = None  # set by main


class StagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-stages-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.rows = cls.folder.path / "train.jsonl"
        cls.content = cls.rows.read_text()
        cls.whole = cls.folder.job()
        cls.first = cls.folder.run(cls.whole)
        cls.untrained = cls.folder.job(like=cls.whole)  # selected, not trained
        for name in ("checkpoints", "export"):
            shutil.rmtree(cls.untrained / "run" / name)
        for name in ("metrics.jsonl", "eval.jsonl", "stages.json"):
            (cls.untrained / "run" / name).unlink()

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def setUp(self):
        self.addCleanup(self.rows.write_text, self.content)

    def verb(self, verb, job, *options):
        return self.folder.run(job, command=self.folder.command(*options, verb=verb))

    def check_did(self, result, steps):
        self.assertEqual(result.code, 0, result)
        self.assertEqual(result.done, steps, result)

    def check_refused(self, result, *words):
        self.assertEqual(result.code, 2, result)
        self.assertIn("error[E0224]", result.err, result)
        for word in words:
            self.assertIn(word, result.err, result)

    def change_rows(self):
        self.rows.write_text(self.content + '{"input_ids": [7, 8, 9]}\n')

    @staticmethod
    def kept(job):
        """But for what a kill leaves: its lock and the checkpoint that it was writing."""
        return {name: file for name, file in recipes.tree(job).items()
                if "/.lock" not in name and "/.staging-" not in name}

    def config_of(self, job):
        return job / "run" / "expert_config.json"


class Run(StagesTest):
    def test_what_the_verbs_made_by_the_same_recipe_is_valid(self):
        job = self.folder.job()
        for verb in ("prepare", "score", "select"):
            self.assertEqual(self.verb(verb, job).code, 0)
        result = self.folder.run(job)
        self.check_did(result, ["train", "export"])
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_a_selection_by_other_keys_is_made_again(self):
        job = self.folder.job(like=self.untrained)
        self.assertEqual(self.verb("select", job, "--set", "esft.select.layers=[2]").code, 0)
        result = self.folder.run(job)
        self.check_did(result, ["select", "train", "export"])
        self.assertIn("select: esft.select.layers was [2], is all", result.out)
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_scores_by_other_keys_are_made_again(self):
        job = self.folder.job(like=self.untrained)
        self.assertEqual(self.verb("score", job, "--set", "esft.score.count=supervised").code, 0)
        result = self.folder.run(job)
        self.assertIn("score: esft.score.count was", result.out)
        self.assertEqual(result.done[0], "score", result)
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_changed_rows_are_prepared_again_and_all_that_comes_of_them(self):
        job = self.folder.job(like=self.untrained)
        self.change_rows()
        result = self.folder.run(job)
        self.check_did(result, STEPS)
        self.assertRegex(result.out, r"prepare: rows of train \(.*train\.jsonl\) was sha256:")
        self.assertIn("score: the tokens of train was xxh3:", result.out)

    def test_a_training_keeps_what_it_was_made_of(self):
        other = self.folder.path / "other-model"
        if not other.exists():
            self.folder.make_model("other-model", seed=1)
        cases = [((), "prepare: rows of train"),
                 (("--set", "data.loss_on=last"), "prepare: data.loss_on was all, is last"),
                 (("--set", "esft.score.tokens=100"), "score: esft.score.tokens was 200, is 100"),
                 (("--set", "esft.select.top_p=0.6"), "select: esft.select.top_p was 0.3, is 0.6"),
                 (("--set", f"model.path={other}"), "the base model was xxh3:")]
        job = self.folder.job(like=self.whole)
        before = recipes.tree(job)
        for options, words in cases:
            with self.subTest(words=words):
                (self.rows.write_text if options else lambda _: self.change_rows())(self.content)
                self.check_refused(self.folder.run(job, *options), words, "--overwrite",
                                   "another output")
                self.assertEqual(recipes.tree(job), before)
                self.rows.write_text(self.content)
        self.check_did(self.folder.run(job), [])

    def test_a_selection_that_was_replaced_under_a_training_is_made_again(self):
        job = self.folder.job(like=self.whole)
        self.assertEqual(self.verb("select", job, "--set", "esft.select.layers=[2]").code, 0)
        self.check_did(self.folder.run(job), ["select"])
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_an_unfinished_training_keeps_it_too(self):
        job = self.folder.job()
        self.folder.run_and_kill(job, "saved step-00000002")
        self.change_rows()
        before = self.kept(job)
        self.check_refused(self.folder.run(job), "prepare: rows of train", "step-0000000")
        self.assertEqual(self.kept(job), before)

    def test_what_was_made_of_rows_that_are_gone_stays_valid_and_that_is_said(self):
        job = self.folder.job(like=self.whole)
        self.rows.unlink()
        result = self.folder.run(job)
        self.check_did(result, [])
        self.assertRegex(result.out, r"note: rows of train \(.*\) are not there any more")
        result = self.verb("train", self.folder.job(like=self.untrained))
        self.assertEqual(result.code, 0, result)
        self.assertIn("are not there any more", result.out)

    def test_outputs_of_earlier_versions_stay_valid_and_that_is_said(self):
        job = self.folder.job(like=self.whole)
        with h5py.File(job / "run" / "scores.h5", "r+") as file:
            for name in ("made_from", "sealed"):  # h5py drops the seal itself
                del file.attrs[name]
        config = json.loads(self.config_of(job).read_text())
        del config["made_from"]
        self.config_of(job).write_text(json.dumps(config))
        (job / "run" / "stages.json").unlink()  # of the files as they were written
        result = self.folder.run(job)
        self.check_did(result, ["train", "export"])
        self.assertIn("resumed at step 6 of 6", result.out)
        for name in ("scores.h5", "expert_config.json"):
            self.assertRegex(result.out, f"note: .*{name} does not say what it was made from")

    def test_what_a_verb_made_since_is_not_what_run_finished(self):
        job = self.folder.job(like=self.whole)
        self.assertEqual(self.verb("export", job, "--checkpoint", "none", "--format", "merged",
                                   "--overwrite").code, 0)
        self.check_did(self.folder.run(job), ["export"])
        self.assertEqual(recipes.differences(job, self.whole), [])
        result = self.verb("train", job, "--overwrite", "--set", "optim.lr=2e-3")
        self.assertEqual(result.code, 0, result)
        result = self.folder.run(job)
        self.assertEqual(result.code, 2, result)
        self.assertIn("E0221", result.err)


class Verbs(StagesTest):
    def test_train_refuses_tokens_of_other_rows_then_scores_of_other_tokens(self):
        job = self.folder.job(like=self.untrained)
        self.change_rows()
        self.check_refused(self.verb("train", job), "rows of train", "sutor prepare")
        self.assertEqual(self.verb("prepare", job).code, 0)
        self.check_refused(self.verb("train", job), "the tokens of train", "`sutor score",
                           "then `sutor select")
        self.assertEqual(self.verb("score", job).code, 0)
        self.check_refused(self.verb("train", job), "the scores was", "`sutor select")
        self.assertEqual(self.verb("select", job).code, 0)
        self.assertEqual(self.verb("train", job).code, 0)

    def test_train_refuses_a_selection_by_other_keys(self):
        job = self.folder.job(like=self.untrained)
        self.check_refused(self.verb("train", job, "--set", "esft.select.layers=[2]"),
                           "esft.select.layers was all, is [2]")
        self.check_refused(self.verb("train", job, "--set", "esft.score.count=supervised"),
                           "esft.score.count was")

    def test_score_and_eval_refuse_tokens_of_other_rows(self):
        job = self.folder.job(like=self.whole)
        self.change_rows()
        self.check_refused(self.verb("score", job), "rows of train", "sutor prepare")
        self.assertEqual(self.verb("eval", job, "--checkpoint", "none").code, 0)
        task = self.folder.path / "task.jsonl"
        content = task.read_text()
        self.addCleanup(task.write_text, content)
        task.write_text(content.replace("[", "[9, ", 1))
        self.check_refused(self.verb("eval", job, "--checkpoint", "none"), "rows of task")

    def test_select_refuses_scores_of_another_model_or_count(self):
        job = self.folder.job(like=self.untrained)
        self.check_refused(self.verb("select", job, "--set", "esft.score.tokens=100"),
                           "esft.score.tokens was 200, is 100", "sutor score")
        self.folder.make_model("second-model", seed=2)
        model = f"model.path={self.folder.path}/second-model"
        self.check_refused(self.verb("select", job, "--set", model), "the base model was xxh3:")
        self.check_refused(self.verb("train", job, "--set", model), "the base model was xxh3:")

    def test_damaged_tokens_are_named_and_made_again_by_run(self):
        job = self.folder.job(like=self.whole)
        store = job / "run" / "tokens" / "train.tokens.h5"
        data = bytearray(store.read_bytes())
        with h5py.File(store) as file:
            data[file["ids"].id.get_offset()] ^= 1
        store.write_bytes(data)
        result = self.verb("score", job)
        self.assertEqual(result.code, 3, result)
        self.assertIn("E0333", result.err)
        self.check_did(self.folder.run(job), ["prepare"])
        self.assertEqual(recipes.differences(job, self.whole), [])


class Edited(StagesTest):
    def edit(self, job, keep_record=True):
        config = json.loads(self.config_of(job).read_text())
        layer = sorted(config["experts"])[0]
        config["experts"][layer] = config["experts"][layer][:1]
        if not keep_record:
            del config["made_from"]
        self.config_of(job).write_text(json.dumps(config))

    def test_a_config_that_a_person_edited_is_neither_used_nor_written_over(self):
        for keep_record in (True, False):
            job = self.folder.job(like=self.untrained)
            self.edit(job, keep_record)
            text = self.config_of(job).read_text()
            for verb in ("run", "train", "select"):
                self.check_refused(self.verb(verb, job), "by a person", "esft.config", "delete it")
                self.assertEqual(self.config_of(job).read_text(), text)
            self.check_refused(self.folder.run(job, "--overwrite"), "by a person")

    def test_both_ways_out_lead_on(self):
        job = self.folder.job(like=self.untrained)
        self.edit(job)
        copy = job / "mine.json"
        copy.write_text(self.config_of(job).read_text())
        result = self.folder.run(job, "--set", f"esft.config={copy}")
        self.check_did(result, ["train", "export"])
        job = self.folder.job(like=self.untrained)
        self.edit(job)
        self.config_of(job).unlink()
        self.check_did(self.folder.run(job), ["select", "train", "export"])
        self.assertEqual(recipes.differences(job, self.whole), [])

    def test_white_space_is_no_edit(self):
        job = self.folder.job(like=self.untrained)
        self.config_of(job).write_text(json.dumps(json.loads(self.config_of(job).read_text()),
                                                  indent=2))
        self.check_did(self.folder.run(job), ["train", "export"])


class Texts(StagesTest):
    """Rows that need tokenizer and template."""

    TEMPLATE = ("{% for m in messages %}{{ m.role }} {% generation %}{{ m.content }}"
                "{% endgeneration %} {% endfor %}")

    def setUp(self):
        super().setUp()
        self.model = self.folder.path / "model"
        words = {word: i for i, word in enumerate("[UNK] user assistant a b c d e".split())}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer.save(str(self.model / "tokenizer.json"))
        (self.model / "chat_template.jinja").write_text(self.TEMPLATE)
        for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
            self.addCleanup((self.model / name).unlink, missing_ok=True)
        rows = "".join(json.dumps({"messages": [{"role": "user", "content": "a b"},
                                                {"role": "assistant", "content": text}]}) + "\n"
                       for text in ("c d e", "d e c", "e c d", "c c d") * 4)
        for name in ("train", "task"):
            path = self.folder.path / f"{name}.jsonl"
            self.addCleanup(path.write_text, path.read_text())
            path.write_text(rows)

    def test_tokens_of_another_tokenizer_or_template_are_made_again(self):
        job = self.folder.job()
        self.assertEqual(self.verb("prepare", job).code, 0)
        self.assertEqual(self.verb("score", job).code, 0)
        tokenizer = self.model / "tokenizer.json"
        changes = [(tokenizer, tokenizer.read_text().replace('"d": 6', '"dd": 6'),
                    "tokenizer.json was sha256:"),
                   (self.model / "chat_template.jinja", self.TEMPLATE + " e",
                    "model/chat_template.jinja was sha256:"),
                   (self.model / "tokenizer_config.json", '{"add_bos_token": false}',
                    "model/tokenizer_config.json was absent, is sha256:")]
        for path, text, words in changes:
            with self.subTest(words=words):
                before = path.read_text() if path.exists() else None
                path.write_text(text)
                self.check_refused(self.verb("score", job), words, "sutor prepare")
                if before is None:
                    path.unlink()
                else:
                    path.write_text(before)
        template = job / "mine.jinja"
        template.write_text(self.TEMPLATE)
        self.check_refused(self.verb("score", job, "--set", f"data.template={template}"),
                           "data.template was auto, is sha256:")
        result = self.folder.run(job, "--set", f"data.template={template}")
        self.assertEqual(result.done[:1], ["prepare"], result)
        template.write_text(self.TEMPLATE + " e")
        self.check_refused(self.verb("score", job, "--set", f"data.template={template}"),
                           "data.template was sha256:")


def main():
    global SUTOR
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    SUTOR = sys.argv.pop(1)
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
