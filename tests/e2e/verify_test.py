#!/usr/bin/env python3
"""What `verify` and the users of files make of damaged ones, and of a base whose config.json has
changed. Every single byte: unit.byte_flips_test.

  .venv/bin/python tests/e2e/verify_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main


class VerifyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-e2e-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.model = cls.folder.path / "model"
        cls.whole = cls.folder.job()
        first = cls.folder.run(cls.whole)
        assert first.code == 0, first

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def sutor(self, job, verb, *arguments):
        return self.folder.run(job, command=[self.folder.sutor, verb, *map(str, arguments)])

    def verify(self, job, path):
        return self.sutor(job, "verify", path)

    def check_refused(self, result, code, *words, exit_code=3):
        self.assertEqual(result.code, exit_code, result)
        for word in (code, *words):
            self.assertIn(word, result.out + result.err, result)


class Deep(VerifyTest):
    def test_names_the_sha256_of_every_file_as_sha256sum_checks_them(self):
        job = self.folder.job(like=self.whole)
        result = self.sutor(job, "verify", "--deep", job / "run/export/merged")
        self.assertEqual(result.code, 0, result)
        lines = [line for line in result.out.splitlines() if re.match("[0-9a-f]{64}  ", line)]
        files = [path for path in (job / "run/export/merged").rglob("*") if path.is_file()]
        self.assertEqual(len(lines), len(files), result)
        checked = subprocess.run(["sha256sum", "-c"], input="\n".join(lines) + "\n", text=True,
                                 capture_output=True, timeout=60)
        self.assertEqual(checked.returncode, 0, checked)


class ChangedConfig(VerifyTest):
    CHANGES = {"num_experts_per_tok": 1, "rope_theta": 123.0, "rms_norm_eps": 0.5}

    def setUp(self):
        self.config = self.model / "config.json"
        self.good = self.config.read_text()
        self.addCleanup(lambda: self.config.write_text(self.good))

    def change(self, **keys):
        self.config.write_text(json.dumps({**json.loads(self.good), **keys}))

    def test_of_what_computes_is_refused_by_all_who_use_what_was_trained(self):
        for key, value in self.CHANGES.items():
            self.change(**{key: value})
            job = self.folder.job(self.whole)
            for verb, *options in (("train", "--resume", "--set", "schedule.steps=8"),
                                   ("export", "--out", "again"), ("eval",)):
                result = self.sutor(job, verb, self.folder.recipe, *options)
                # Before the checkpoint is read, `train` sees that the scores are of another model.
                self.check_refused(result, "E0224" if verb == "train" else "E0305", key,
                                   exit_code=2 if verb == "train" else 3)
            result = self.sutor(job, "train", self.folder.recipe, "--resume", "--set",
                                "schedule.steps=8", "--set",
                                f"esft.config={self.whole}/run/expert_config.json")
            self.check_refused(result, "E0305", key)
            adapter = self.whole / "run/export/adapter"
            self.check_refused(self.sutor(job, "merge", "--base", self.model, "--adapter", adapter,
                                          "--out", "merged"), "E0305", key)
            self.check_refused(
                self.sutor(job, "eval", self.folder.recipe, "--checkpoint", "none", "--set",
                           f"model.adapters=[{adapter}]"), "E0305", key)

    def test_of_its_form_or_of_other_keys_is_not(self):
        job = self.folder.job(self.whole)
        keys = {**json.loads(self.good), "transformers_version": "9.9", "use_cache": False}
        self.config.write_text(json.dumps(dict(reversed(keys.items())), indent=7))
        result = self.sutor(job, "export", self.folder.recipe, "--out", "again")
        self.assertEqual(result.code, 0, result)
        self.assertNotIn("warning[W0301]", result.err)

    def test_is_seen_in_a_base_store_too(self):
        store = self.folder.path / "store"
        made = self.sutor(self.whole, "convert", "--from", self.model, "--to", store)
        self.assertEqual(made.code, 0)
        job = self.folder.job(self.whole)
        there = ("--set", f"model.path={store}")
        result = self.sutor(job, "export", self.folder.recipe, "--out", "again", *there)
        self.assertEqual(result.code, 0, result)
        self.change(num_experts_per_tok=1)
        self.assertEqual(self.sutor(job, "convert", "--from", self.model, "--to", store,
                                    "--overwrite").code, 0)
        result = self.sutor(job, "export", self.folder.recipe, "--out", "third", *there)
        self.check_refused(result, "E0305", "num_experts_per_tok")


class DamagedFiles(VerifyTest):
    def setUp(self):
        self.job = self.folder.job(self.whole)
        self.run_folder = self.job / "run"

    def flip(self, path, at, bits=1):
        data = bytearray(path.read_bytes())
        data[at] ^= bits
        path.write_bytes(data)

    def replace(self, path, old, new):
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))

    def check_verify_names(self, path, name):
        result = self.verify(self.job, path)
        self.assertEqual(result.code, 3, result)
        self.assertIn(name, result.out, result)

    def test_sound_ones_pass(self):
        for path in ("export/merged", "export/adapter", "scores.h5", "expert_config.json",
                     "tokens/train.tokens.h5", "checkpoints"):
            result = self.verify(self.job, self.run_folder / path)
            self.assertEqual(result.code, 0, result)

    def test_frozen_values_config_and_tokenizer_of_an_export(self):
        merged = self.run_folder / "export/merged"
        weights = merged / "model.safetensors"
        self.flip(weights, weights.stat().st_size - 9)
        self.check_verify_names(merged, "model.safetensors")
        self.flip(weights, weights.stat().st_size - 9)
        self.replace(merged / "config.json", "1", "2")
        self.check_verify_names(merged, "config.json")
        result = self.sutor(self.job, "inspect", merged)
        self.check_refused(result, "E0347", "config.json")

    def test_missing_and_extra_files_of_an_export(self):
        merged = self.run_folder / "export/merged"
        (merged / "notes.txt").write_text("mine")
        self.check_verify_names(merged, "notes.txt")
        (merged / "notes.txt").unlink()
        (merged / "generation_config.json").unlink(missing_ok=True)
        (merged / "config.json").rename(self.job / "config.json")
        (merged / "config.json").write_text("{}")
        self.check_verify_names(merged, "config.json")

    def test_manifest_and_experts_of_an_adapter(self):
        adapter = self.run_folder / "export/adapter"
        info = adapter / "sutor_adapter.json"
        good = info.read_text()
        digest = json.loads(good)["base_digest"]
        self.replace(info, digest, digest[:-1] + ("0" if digest[-1] != "0" else "1"))
        self.check_verify_names(adapter, info.name)
        merge = ("merge", "--base", self.model, "--adapter", adapter, "--out", "m")
        self.check_refused(self.sutor(self.job, *merge), "E0342", info.name)
        info.write_text(good)
        self.replace(adapter / "expert_cfg.json", "false", "true")
        self.check_verify_names(adapter, "expert_cfg.json")
        self.check_refused(self.sutor(self.job, *merge), "expert_cfg.json")

    def test_values_of_an_adapter_are_checked_before_they_are_used(self):
        adapter = self.run_folder / "export/adapter"
        weights = adapter / "model.safetensors"
        self.flip(weights, weights.stat().st_size - 1)
        self.check_verify_names(adapter, weights.name)
        for verb, options in (("merge", ("--base", self.model, "--adapter", adapter, "--out", "m")),
                              ("eval", (self.folder.recipe, "--checkpoint", "none", "--set",
                                        f"model.adapters=[{adapter}]"))):
            self.check_refused(self.sutor(self.job, verb, *options), "E0347", weights.name)

    def test_gate_sums_of_scores(self):
        scores = self.run_folder / "scores.h5"
        good = scores.read_bytes()
        recorded = good[:-24]
        self.assertEqual(good[-24:-16], b"SUTORSUM")
        self.assertEqual(struct.unpack("<Q", good[-16:-8])[0], len(recorded))
        self.flip(scores, good.rindex(b"\0" * 64) - 8)
        self.check_verify_names(scores, "scores.h5")
        self.check_refused(self.sutor(self.job, "select", self.folder.recipe), "scores.h5")

    def test_texts_of_a_token_store(self):
        store = self.run_folder / "tokens/train.tokens.h5"
        good = store.read_bytes()
        self.assertNotIn(b"GCOL", good)
        self.flip(store, good.index(b"sha256:"))
        self.check_verify_names(store, store.name)
        self.check_refused(self.sutor(self.job, "train", self.folder.recipe, "--resume"),
                           store.name)

    def test_a_model_directory_that_was_recorded(self):
        model = self.job / "model"
        shutil.copytree(self.model, model)
        said = self.verify(self.job, model)
        self.assertIn("no recorded digests", said.out, said)
        self.assertEqual(self.sutor(self.job, "verify", model, "--record").code, 0)
        self.assertIn("every byte", self.verify(self.job, model).out)
        weights = next(model.glob("*.safetensors"))
        self.flip(weights, weights.stat().st_size - 1)
        self.check_verify_names(model, weights.name)
        self.check_refused(self.sutor(self.job, "eval", self.folder.recipe, "--set",
                                      f"model.path={model}"), weights.name)


def main():
    global SUTOR
    SUTOR = pathlib.Path(sys.argv.pop(1))
    unittest.main(module=__name__)


if __name__ == "__main__":
    main()
