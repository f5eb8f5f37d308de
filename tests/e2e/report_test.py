#!/usr/bin/env python3
"""The page and the receipt of a run: their numbers are those of the run's files, nothing leaves the
page, and `verify` finds every byte that changed.

  .venv/bin/python tests/e2e/report_test.py build/sutor [-v] [Class.test]...
"""

import html.parser
import json
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

import recipes

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))
import jobs  # noqa: E402

SUTOR = None  # set by main
# What would fetch something, in a script or a style sheet.
FETCHES = ("http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "WebSocket",
           "EventSource", "sendBeacon", "import(", "importScripts", "Worker(")
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "formaction", "background",
             "xlink:href", "manifest", "ping")


class Page(html.parser.HTMLParser):
    """The tables, texts, embedded data and addresses of a page."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.addresses, self.code, self.tags = {}, [], {}, []
        self.words, self._table, self._cell, self._element = "", None, None, None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.data = json.loads(self.code["application/json"][0])
        self.charts = self.data["charts"]

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append(tag)
        self.addresses += [(tag, name, value) for name, value in attributes
                           if name in ADDRESSES or name.startswith("on")]
        if tag in ("script", "style"):
            self._element = named.get("type", tag)
        elif tag == "div" and named.get("role") == "region":
            self._table = self.tables.setdefault(named["aria-label"], [])
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._element = None
        elif tag in ("td", "th") and self._cell is not None:
            self._table[-1].append(self._cell)
            self._cell = None
        elif tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._element:
            self.code.setdefault(self._element, []).append(data)
            return
        self.words += data + " "
        if self._cell is not None:
            self._cell += data

    def rows(self, name):
        """Of a table: dictionaries by column title."""
        head, *rows = self.tables[name]
        return [dict(zip(head, row)) for row in rows]

    def external(self):
        """What could make a browser ask for something elsewhere."""
        found = [each for each in self.addresses
                 if not (each[1] == "href" and each[2].startswith(("#", "data:,")))]
        for kind in ("script", "style"):
            found += [word for text in self.code[kind] for word in FETCHES if word in text]
        return found


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class ReportTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-e2e-")
        cls.folder = recipes.Folder(SUTOR, cls.temporary.name)
        cls.whole = cls.folder.job()
        cls.first = cls.folder.run(cls.whole)
        assert cls.first.code == 0, cls.first

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def sutor(self, job, verb, *arguments, env=None):
        return self.folder.run(job, command=[self.folder.sutor, verb, *map(str, arguments)],
                               env=env)

    def receipt(self, job):
        return json.loads((job / "run/receipt.json").read_text())

    def drawn(self, job, *options):
        """The page that `report` draws of a job's folder."""
        out = job / "page.html"
        result = self.sutor(job, "report", job / "run", "--out", out, *options)
        self.assertEqual(result.code, 0, result)
        return Page(out)


class Numbers(ReportTest):
    def setUp(self):
        self.run_folder = self.whole / "run"
        self.page = Page(self.run_folder / "report.html")
        self.metrics = lines(self.run_folder / "metrics.jsonl")
        self.evaluations = lines(self.run_folder / "eval.jsonl")

    def test_of_the_curves_are_those_of_the_log(self):
        steps = [row["step"] for row in self.metrics]
        for chart, key, size in (("loss", "loss", 1), ("lr", "lr", 1), ("grad_norm",) * 2 + (1,),
                                 ("tokens_per_s",) * 2 + (1,), ("step_seconds",) * 2 + (1,),
                                 ("memory", "peak_memory_bytes", 1 << 20)):
            line = self.page.charts[chart]["lines"][0]
            self.assertEqual(line["steps"], steps, chart)
            self.assertEqual(line["values"], [row[key] / size for row in self.metrics], chart)
        task = [row for row in self.evaluations if row["set"] == "task"]
        line = self.page.charts["loss"]["lines"][1]
        self.assertEqual((line["name"], line["steps"], line["values"]),
                         ("task (evaluation)", [row["step"] for row in task],
                          [row["loss"] for row in task]))

    def test_at_the_levels_of_a_chart_differ(self):
        charts = re.findall(r"<svg[^>]* data-chart=.*?</svg>", self.page.source, re.S)
        self.assertGreater(len(charts), 5)
        for chart in charts:
            levels = re.findall(r'text-anchor="end">([^<]+)<', chart)
            self.assertEqual(len(levels), len(set(levels)), levels)

    def test_before_and_after_are_those_of_the_evaluations(self):
        shown = {row["metric"]: row for row in self.page.rows("evaluations before and after")}
        self.assertEqual(set(shown), {"loss", "ppl", "token_acc"})
        by_step = {row["step"]: row for row in self.evaluations}
        for metric, row in shown.items():
            after = {step: of[metric] for step, of in by_step.items() if step > 0}
            best = (max if metric == "token_acc" else min)(after.values())
            self.assertEqual(row["base"], f"{by_step[0][metric]:.6f}")
            self.assertEqual(row["best"], f"{best:.6f}")
            self.assertEqual(row["change"], f"{best - by_step[0][metric]:+.6f}")
            self.assertEqual(row["last"], f"{by_step[6][metric]:.6f}")
        best = min((of["loss"], step) for step, of in by_step.items() if step > 0)[1]
        self.assertEqual(shown["loss"]["of"], f"step-{best:08}")

    def test_of_the_receipt_are_those_of_the_log_and_of_the_page(self):
        receipt = self.receipt(self.whole)
        self.assertEqual(self.page.data["receipt"], receipt)
        training = receipt["training"]
        self.assertEqual(training["steps"], 6)
        self.assertEqual(training["first_loss"], self.metrics[0]["loss"])
        self.assertEqual(training["last_loss"], self.metrics[-1]["loss"])
        for key in ("tokens", "supervised_tokens"):
            self.assertEqual(training[key], sum(row[key] for row in self.metrics))
            self.assertIn(f"{training[key]:,}", self.page.words)
        self.assertAlmostEqual(training["seconds"], sum(r["step_seconds"] for r in self.metrics))
        self.assertIn(f"loss {training['first_loss']:.6f} at the first step", self.page.words)
        self.assertIn(f"{training['last_loss']:.6f} at the last", self.page.words)

    def test_of_the_check_are_those_that_the_training_printed(self):
        printed = re.search(r"trained tensors changed (\d+) of (\d+); frozen tensors unchanged of "
                            r"(\d+)", self.first.out)
        changed, trained, frozen = map(int, printed.groups())
        self.assertEqual(self.receipt(self.whole)["check"],
                         {"trained": trained, "changed": changed, "frozen": frozen,
                          "frozen_unchanged": True})
        self.assertIn(f"Trained tensors changed: {changed} of {trained}", self.page.words)
        self.assertIn(f"Frozen tensors unchanged: {frozen}", self.page.words)

    def test_of_the_experts_are_those_of_the_selection(self):
        chosen = json.loads((self.run_folder / "expert_config.json").read_text())["experts"]
        self.assertEqual(self.page.data["selection"], chosen)
        shown = {row["layer"]: row for row in self.page.rows("experts by layer")}
        for layer, ids in chosen.items():
            self.assertEqual(shown[layer]["experts"], " ".join(map(str, ids)))
            shares = self.page.data["heat"]["scores"][layer]
            self.assertAlmostEqual(sum(shares), 1)
            self.assertEqual(shown[layer]["share covered"],
                             f"{100 * sum(shares[e] for e in ids):.1f}%")

    def test_the_receipt_says_what_ran(self):
        receipt = self.receipt(self.whole)
        self.assertEqual(receipt["standing"], "finished")
        self.assertIn("sutor run", receipt["program"]["command"])
        self.assertEqual(receipt["model"]["path"], str(self.folder.path / "model"))
        self.assertEqual(receipt["best"]["metric"], "task.loss")
        roles = {entry["role"] for entry in receipt["artifacts"]}
        self.assertLessEqual({"base", "base_file", "tokens", "scores", "expert_config", "recipe",
                              "metrics", "evaluations", "checkpoint", "export", "record"}, roles)
        self.assertIn(receipt["program"]["command"], self.page.words)
        self.assertIn("finished", self.page.words)

    def test_checkpoints_are_named_with_their_marks(self):
        shown = self.page.rows("checkpoints")
        folders = sorted(path.name for path in (self.run_folder / "checkpoints").glob("step-*"))
        self.assertEqual([row["checkpoint"] for row in shown], folders)
        for pointer in ("BEST", "LATEST"):
            name = (self.run_folder / "checkpoints" / pointer).read_text().strip()
            marks = [row[""] for row in shown if row["checkpoint"] == name]
            self.assertIn(pointer.lower(), marks[0])


class Offline(ReportTest):
    def test_nothing_of_the_page_is_elsewhere(self):
        page = Page(self.whole / "run/report.html")
        self.assertEqual(page.external(), [])
        self.assertFalse({"iframe", "img", "object", "embed", "form"} & set(page.tags))
        self.assertIn("default-src 'none'", page.source)

    def test_the_search_for_addresses_finds_them(self):
        page = self.whole / "elsewhere.html"
        good = (self.whole / "run/report.html").read_text()
        for bad in ('<img src="x.png">', '<a href="https://a.b/">x</a>', '<b onclick="x()">x</b>',
                    "<style>a { background: url(x) }</style>", "<script>fetch('x')</script>"):
            page.write_text(good.replace("</main>", bad + "</main>"))
            self.assertEqual(len(Page(page).external()), 1, bad)

    def test_names_of_strangers_are_text(self):
        job = self.folder.job(like=self.whole)
        hostile = job / "<script>alert(1)<"
        (job / "run").rename(hostile)
        record = hostile / "run_record.json"
        record.write_text(record.read_text().replace(
            '"sutor run', '"sutor run </script><img src=x onerror=1>'))
        result = self.sutor(job, "report", hostile)
        self.assertEqual(result.code, 0, result)
        page = Page(hostile / "report.html")
        self.assertEqual(page.external(), [])
        self.assertNotIn("img", page.tags)
        self.assertEqual(page.tags.count("script"), 2)
        self.assertIn("<script>alert(1)<", page.words)
        self.assertIn("<img src=x onerror=1>", page.words)


class Receipts(ReportTest):
    def verify(self, job, receipt=None):
        return self.sutor(job, "verify", receipt or job / "run/receipt.json")

    def check_found(self, job, name):
        result = self.verify(job)
        self.assertEqual(result.code, 3, f"{name}: {result}")
        self.assertIn(name, result.out)

    def test_of_a_whole_run_hold_also_elsewhere(self):
        job = self.folder.job(like=self.whole)
        for place in (self.whole / "run", job / "run"):
            result = self.verify(job, place / "receipt.json")
            self.assertEqual(result.code, 0, result)
            self.assertIn("ok receipt", result.out)
        shutil.move(job / "run", job / "moved")
        (job / "moved/tokens/train.tokens.h5").unlink()
        result = self.verify(job, job / "moved/receipt.json")
        self.assertEqual(result.code, 3, result)
        self.assertIn("moved/tokens/train.tokens.h5", result.out)

    def listed_files(self, job):
        """Every file below the run's folder that the receipt answers for."""
        for entry in self.receipt(job)["artifacts"]:
            path = job / "run" / entry["path"]
            if str(path).startswith(str(job)):
                yield from ([path] if path.is_file()
                            else sorted(file for file in path.rglob("*") if file.is_file()))

    def test_find_a_changed_byte_in_every_file_of_the_run(self):
        job = self.folder.job(like=self.whole)
        files = list(self.listed_files(job))
        self.assertGreater(len(files), 15)
        for path in files:
            good = path.read_bytes()
            bad = bytearray(good)
            bad[len(bad) // 2] ^= 1
            path.write_bytes(bad)
            with self.subTest(file=str(path.relative_to(job))):
                self.check_found(job, path.name)
            path.write_bytes(good)
        self.assertEqual(self.verify(job).code, 0)

    def test_find_a_changed_base(self):
        job = self.folder.job(like=self.whole)
        model = self.folder.path / "model"
        for name in ("model.safetensors", "config.json"):
            path = model / name
            good = path.read_bytes()
            self.addCleanup(path.write_bytes, good)
            bad = bytearray(good)
            # Of the tensors the last byte, of the config a digit.
            at = len(bad) - 2 if name.endswith("s") else good.rindex(b"1")
            bad[at] ^= 2
            path.write_bytes(bad)
            self.check_found(job, str(path) if name == "config.json" else str(model))
            path.write_bytes(good)

    def test_find_files_that_are_gone(self):
        job = self.folder.job(like=self.whole)
        for name in ("scores.h5", "checkpoints", "export/adapter"):
            aside = job / "aside"
            (job / "run" / name).rename(aside)
            self.check_found(job, name)
            aside.rename(job / "run" / name)

    def test_that_were_edited_are_refused(self):
        job = self.folder.job(like=self.whole)
        path = job / "run/receipt.json"
        good = path.read_text()
        receipt = json.loads(good)
        for bad, code in (
                (good.replace('"steps": 6', '"steps": 7'), "E0342"),
                (json.dumps({**receipt, "artifacts": receipt["artifacts"][1:]}), "E0342"),
                (json.dumps({**receipt, "version": 99}), "E0343"),
                (json.dumps({**receipt, "format": "other"}), "E0342"),
                (good[:len(good) // 2], "E0342"), ("[]", "E0342"), ("", "E0342")):
            path.write_text(bad)
            result = self.verify(job)
            self.assertEqual(result.code, 3, result)
            self.assertIn(code, result.out)
        path.write_text(json.dumps(receipt))  # another way to write the same
        self.assertEqual(self.verify(job).code, 0)

    def test_are_renewed_on_request(self):
        job = self.folder.job(like=self.whole)
        shutil.rmtree(job / "run/export/adapter")
        self.assertEqual(self.verify(job).code, 3)
        result = self.sutor(job, "report", job / "run", "--receipt")
        self.assertEqual(result.code, 0, result)
        self.assertEqual(self.verify(job).code, 0)


class Standings(ReportTest):
    def test_an_interrupted_run_says_so(self):
        job = self.folder.job()
        self.folder.run_and_kill(job, "saved step-00000004")
        self.assertFalse((job / "run/report.html").exists())
        page = self.drawn(job)
        self.assertIn("interrupted", page.words)
        self.assertIn("this one has not", page.words)
        self.assertEqual(page.data["receipt"]["standing"], "interrupted")
        self.assertNotIn("check", page.data["receipt"])
        result = self.folder.run(job)
        self.assertEqual(result.code, 0, result)
        receipt = self.receipt(job)
        self.assertEqual(receipt["standing"], "finished")
        self.assertEqual([start["from_step"] for start in receipt["starts"]], [0, 4])
        self.assertEqual([start["end"] and start["end"]["how"] for start in receipt["starts"]],
                         [None, "finished"])

    def test_a_failed_run_says_why(self):
        job = self.folder.job()
        result = self.folder.run(job, "--set", "optim.lr=1e30")
        self.assertEqual(result.code, 7, result)
        page = self.drawn(job)
        self.assertEqual(page.data["receipt"]["standing"], "failed")
        self.assertIn("error[E0701]", page.words)

    def test_pieces_that_are_missing_or_not_finite_leave_the_rest(self):
        job = self.folder.job(like=self.whole)
        run = job / "run"
        rows = lines(run / "metrics.jsonl")
        rows[2]["loss"] = None
        rows[3]["grad_norm"] = None
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run / "metrics.jsonl").write_text(text + '{"step": 7, "lo')
        (run / "eval.jsonl").write_text("")
        (run / "scores.h5").unlink()
        (run / "run_record.json").write_text("{")
        page = self.drawn(job)
        self.assertEqual(page.charts["loss"]["lines"][0]["values"][2], None)
        self.assertEqual(len(page.charts["loss"]["lines"][0]["steps"]), 6)
        self.assertNotIn("evaluations before and after", page.tables)
        self.assertEqual(page.data["heat"], {"scores": None, "live": {}})
        rows = [{**row, "loss": None} for row in rows]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        page = self.drawn(job)
        self.assertNotIn("loss", page.charts)
        self.assertIn("no finite value", page.words)
        (run / "expert_config.json").write_text("{}")
        self.assertIn("Not on this page", self.drawn(job).words)

    def test_live_experts_and_a_plan_are_shown_where_they_are(self):
        job = self.folder.job(like=self.whole)
        run = job / "run"
        rows = lines(run / "metrics.jsonl")
        for row in rows:
            row["experts"] = {"load_max_over_mean": 2 + row["step"] / 7, "cv": 0.5, "dead": 3,
                              "share": 0.4, "share_at_scoring": 0.31, "drifted_layers": [1],
                              "layers": [{"layer": 1, "share": 0.4567, "dead": [2, 3],
                                          "load_max_over_mean": 2.5, "counts": [1, 0, 3]}]}
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (run / "plan.json").write_text(json.dumps({
            "planned": {"peak_bytes": 3 << 20, "items": {"weights": 1 << 20}, "parameters": 7,
                        "step_seconds": 2.0},
            "measured": {"peak_bytes": 2 << 20, "items": {"weights": 1 << 20}, "parameters": 7,
                         "step_seconds": 1.0}}))
        page = self.drawn(job)
        self.assertEqual(page.charts["experts-load"]["lines"][0]["values"],
                         [2 + step / 7 for step in range(1, 7)])
        self.assertEqual(page.data["heat"]["live"], {"1": [0.25, 0, 0.75]})
        self.assertIn("40.0%", page.words)
        self.assertIn("+9.0 points", page.words)
        layer = page.rows("experts by layer")[0]
        self.assertEqual((layer["live share"], layer["live dead"]), ("45.7%", "2"))
        plan = {row[""].strip(): row for row in page.rows("plan beside measurement")}
        self.assertEqual(plan["peak memory of a rank"]["planned over measured"], "+50.0%")
        self.assertEqual(plan["a step"]["measured"], "1.0 s")

    def test_two_ranks_are_set_side_by_side(self):
        job = self.folder.job()
        result = self.folder.run(job, command=jobs.mpiexec(
            *self.folder.command("--set", "parallel.ep=2"), ranks=2))
        self.assertEqual(result.code, 0, result)
        page = Page(job / "run/report.html")
        self.assertEqual([row["rank"] for row in page.rows("memory by rank")], ["0", "1"])
        loads = [float(load) for load in re.findall(r"rank \d+ +(\d\.\d{3})", page.words)]
        self.assertEqual(len(loads), 2)
        self.assertAlmostEqual(sum(loads), 2, places=2)
        layers = page.data["heat"]["scores"].values()
        first = sum(sum(shares[:len(shares) // 2]) for shares in layers) / len(layers)
        self.assertAlmostEqual(loads[0], 2 * first, places=3)
        self.assertEqual(self.sutor(job, "verify", job / "run/receipt.json").code, 0)


class Commands(ReportTest):
    def test_a_recipe_stands_for_its_output(self):
        job = self.folder.job(like=self.whole)
        (job / "run/report.html").unlink()
        result = self.sutor(job, "report", self.folder.recipe)
        self.assertEqual(result.code, 0, result)
        self.assertIn("report.html", result.out)
        self.assertTrue((job / "run/report.html").exists())

    def test_another_place_leaves_the_folder_as_it_is(self):
        job = self.folder.job(like=self.whole)
        before = recipes.tree(job)
        self.drawn(job)
        self.assertEqual(recipes.tree(job), before)

    def test_what_is_no_run_is_refused(self):
        job = self.folder.job()
        (job / "empty").mkdir()
        (job / "link.html").symlink_to("elsewhere")
        for arguments, code, words in (
                (["empty"], 3, ("E0349", "holds no run")), (["nowhere"], 3, ("E0301", "nowhere")),
                ([self.folder.recipe], 3, ("E0349", "does not exist")),
                ([self.whole / "run", "--set", "a=1"], 2, ("E0202", "--set")),
                ([self.whole / "run", "--out", "link.html"], 2, ("E0220", "link.html")),
                ([], 2, ("E0202",))):
            result = self.sutor(job, "report", *arguments)
            self.assertEqual(result.code, code, result)
            for word in words:
                self.assertIn(word, result.err)
        self.assertEqual(sorted(path.name for path in job.iterdir()), ["empty", "link.html"])

    def test_a_page_that_cannot_be_drawn_fails_no_run(self):
        job = self.folder.job(like=self.whole)
        shutil.rmtree(job / "run/export")
        (job / "run/report.html").unlink()
        result = self.folder.run(job, env={"SUTOR_PYTHON": "/nowhere/python"})
        self.assertEqual(result.code, 0, result)
        self.assertIn("warning: the report of the run is not complete", result.err)
        self.assertIn("SUTOR_PYTHON", result.err)
        self.assertEqual(self.sutor(job, "verify", job / "run/receipt.json").code, 0)
        self.assertEqual(list((job / "run").glob(".*tmp")), [])


def main():
    global SUTOR
    SUTOR = pathlib.Path(sys.argv.pop(1))
    unittest.main(module=__name__)


if __name__ == "__main__":
    main()
