#!/usr/bin/env python3
"""A training that is not finite any more names where that began: weight, layer, experts, token and
document, or gradient; and keeps the batch.

  .venv/bin/python tests/e2e/divergence_test.py build/sutor [-v] [Class.test]...
"""

import json
import re
import struct
import sys
import tempfile
import unittest

import recipes

SUTOR = None  # set by main


class Divergence(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-diverged-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.ready = cls.folder.job()
        for verb in ("prepare", "score", "select"):
            result = cls.folder.run(cls.ready, command=cls.folder.command(verb=verb))
            assert result.code == 0, result

    def trained(self, *sets, ranks=1, like=None, verbs=("train",)):
        job = self.folder.job(like=like)
        options = [word for key in ("eval.before_training=false", *sets) for word in ("--set", key)]
        for verb in verbs:
            command = self.folder.command(*options, verb=verb)
            if ranks > 1:
                command = ["mpiexec", "-n", str(ranks), *command]
            result = self.folder.run(job, command=command)
        self.assertEqual(result.code, 7, result)
        self.assertIn("error[E0701]: training diverged at step ", result.err)
        return job, result

    def check_batch(self, job, err):
        """The file has the document of the message, and in it the token."""
        batch = json.loads((job / "run/diverged.json").read_text())
        where = re.search(r"at token (\d+) \(id (\d+)\) of (document \d+ of train)", err)
        self.assertTrue(where, err)
        named = [doc for doc in batch["documents"] if doc["name"] == where[3]]
        self.assertEqual(len(named), 1, batch["documents"])
        self.assertEqual(named[0]["ids"][int(where[1])], int(where[2]))
        row = int(where[3].split()[1])
        rows = (self.folder.path / "train.jsonl").read_text().splitlines()
        self.assertEqual(named[0]["ids"], json.loads(rows[row])["input_ids"])
        self.assertIn(batch["place"], err)
        self.assertIn(f"at step {batch['step']}:", err)
        return batch

    def test_of_a_step_too_large_names_layer_token_document_and_experts(self):
        job, result = self.trained("optim.lr=1e30", like=self.ready)
        self.assertRegex(result.err, r"the output of layer \d+ is the first that is not finite")
        self.assertRegex(result.err, r"went to the experts \d+(, \d+)+")
        batch = self.check_batch(job, result.err)
        self.assertEqual(batch["step"], 2)
        self.assertIsNone(batch["grad_norm"])

    def test_is_named_once_and_alike_on_two_ranks(self):
        for layout in ("parallel.ep=2", "parallel.pp=2", "parallel.ep=1"):
            with self.subTest(layout):
                job, result = self.trained("optim.lr=1e30", layout, ranks=2, like=self.ready)
                self.assertEqual(len(result.errors()), 1, result)
                self.assertRegex(result.err, r"layer \d+ is the first .*\(rank [01]\)")
                self.check_batch(job, result.err)

    def test_of_a_weight_names_the_weight(self):
        """Of a base that has not been scored: its experts are given."""
        for number, value in ((3, float("nan")), (5, float("inf"))):
            weight = f"model.layers.1.mlp.experts.{number}.up_proj.weight"
            model = f"bad-{number}"
            self.folder.make_model(model, seed=0)
            poison(self.folder.path / model / "model.safetensors", weight, value)
            experts = self.folder.path / "given.json"
            experts.write_text(json.dumps({"experts": {"1": [0, 1]}, "shared_experts": False,
                                           "non_expert_modules": False}))
            _, result = self.trained(f"model.path={self.folder.path / model}",
                                     f"esft.config={experts}", verbs=("prepare", "train"))
            self.assertIn(f"the weight `{weight}` is not finite", result.err)
            self.assertEqual(len(result.errors()), 1, result)


def poison(path, name, value):
    """Puts the value into the middle of an fp32 tensor of a safetensors file."""
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])[name]
    assert entry["dtype"] == "F32", entry
    begin, end = entry["data_offsets"]
    struct.pack_into("<f", data, 8 + size + begin + (end - begin) // 8 * 4, value)
    path.write_bytes(data)


if __name__ == "__main__":
    SUTOR = sys.argv.pop(1)
    unittest.main()
