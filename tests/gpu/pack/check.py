"""Compares the GPU with references: operators, golden models, training. ./check starts it."""

import concurrent.futures
import json
import pathlib
import re
import shutil
import sys
import tempfile

from pack import AT_ONCE, DEVICE, HERE, NO_GPU, SIDE_BY_SIDE, Table, run, seconds_left, sutor
from tensors import Tensors, distance

# As tests/support/op_devices.h has it: by the norm of all elements.
OPERATOR_TOLERANCE = "fp32 1e-5, bf16 1e-2"
OPERATOR_TESTS = f"*/{DEVICE.capitalize()}*"
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
GRADIENT_TOLERANCE = 1e-3  # fp32
TRAINING_TOLERANCE = 1e-3
STEPS = 50
MEMCHECK_SECONDS = 100

TRAINED = {"deepseek_v2": {"1": [2, 4, 6], "2": [2, 4]}, "qwen3_moe": {"0": [1, 5], "1": [0, 3]}}
RECIPE = """\
model: {{path: {folder}/{family}, dtype: fp32}}
data: {{train: [{{path: {tokens}, format: store}}], seq_len: 64, loss_on: all}}
esft: {{config: {folder}/{family}.json}}
optim: {{lr: 1e-3}}
train: {{global_batch: 4, micro_batch: 2, threads: 1}}
checkpoint: {{every: 25}}
eval: {{every: 0, before_training: false}}
log: {{tensorboard: false, every: 25}}
device: {device}
"""


def verdict(error, tolerance):
    return "ok" if error <= tolerance else "FAILED: above the tolerance"


class Checks:

    def __init__(self, folder):
        self.folder = folder
        self.table = Table("what", "device", "error", "tolerance", "result")

    def of_gpu(self, what, tolerance):
        """A row that stands for what a machine without a GPU cannot check."""
        if NO_GPU:
            self.table.row(what, "cuda", "-", tolerance, f"not measured: {NO_GPU}")

    # ---- operators

    def operators(self):
        """The tests of every operator, each operator in a process of its own."""
        self.of_gpu("operators", OPERATOR_TOLERANCE)
        tests = listed_tests(OPERATOR_TESTS)
        if not tests:
            self.table.row("operators", DEVICE, "-", OPERATOR_TOLERANCE,
                           "FAILED: operators_test names no test of it")
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for cells in pool.map(self.operator, tests):
                self.table.row(*cells)

    def operator(self, suite):
        report = self.folder / f"{suite.replace('/', '_')}.json"
        done = run([HERE / "bin" / "operators_test",
                    f"--gtest_filter={suite}.{OPERATOR_TESTS}",
                    f"--gtest_output=json:{report}"], **SIDE_BY_SIDE)
        name = suite.split("/")[-1]
        if not report.is_file():
            last = re.findall(r"\[ RUN +\] (\S+)", done.text)
            why = f"FAILED: {done.why()}" + (f", in {last[-1]}" if last else "")
            return name, DEVICE, "-", OPERATOR_TOLERANCE, why
        cases = [case for found in json.loads(report.read_text())["testsuites"]
                 for case in found["testsuite"]]
        failed = [case for case in cases if case.get("failures")]
        skipped = [case for case in cases if case["result"] == "SKIPPED"]
        for case in failed[:3]:
            text = "\n".join(case["failures"][0]["failure"].splitlines()[:6])
            print(f"{suite}.{case['name']}:\n{text}", flush=True)
        if failed:
            result = f"FAILED: {len(failed)} of {len(cases)} tests, as {failed[0]['name']}"
        elif skipped or done.code != 0 or not cases:
            result = f"FAILED: {len(skipped)} of {len(cases)} tests skipped; {done.why()}"
        else:
            result = f"ok, {len(cases)} tests"
        return name, DEVICE, recorded_errors(cases), OPERATOR_TOLERANCE, result

    # ---- golden models

    def golden_models(self):
        models = sorted(path.parent for path in (HERE / "models").glob("*/expected.safetensors"))
        jobs = [(model, dtype, device) for model in models for dtype in LOSS_TOLERANCE
                for device in ("cpu", "cuda") if device == "cpu" or not NO_GPU]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for rows in pool.map(lambda job: self.golden(*job), jobs):
                for cells in rows:
                    self.table.row(*cells)
        for dtype, tolerance in LOSS_TOLERANCE.items():
            self.of_gpu(f"golden models, loss in {dtype}", f"{tolerance:.0e}")

    def golden(self, model, dtype, device):
        """Rows for the loss, and in fp32 for the gradients of the chosen experts."""
        expected = Tensors(model / "expected.safetensors")
        ids, out = (self.folder / f"{model.name}.{dtype}.{device}.{kind}"
                    for kind in ("json", "safetensors"))
        ids.write_text(json.dumps(expected.rows("ids")))
        done = sutor("logits", "--model", model, "--ids", ids, "--dtype", dtype, "--device", device,
                     "--grads", model / "expert_config.json", "--out", out, **SIDE_BY_SIDE)
        tolerance, what = LOSS_TOLERANCE[dtype], f"{model.name}, loss in {dtype}"
        if done.code != 0:
            return [(what, device, "-", f"{tolerance:.0e}", f"FAILED: {done.why()}")]
        ours = Tensors(out)
        error = abs(ours.value("loss") / expected.value("loss") - 1)
        rows = [(what, device, error, f"{tolerance:.0e}", verdict(error, tolerance))]
        if dtype == "fp32":
            common = [name for name in ours.names()
                      if name.startswith("grad.") and name in expected.entries]
            error = max((distance(ours.values(name), expected.values(name)) for name in common),
                        default=float("inf"))
            rows.append((f"{model.name}, {len(common)} gradients in fp32", device, error,
                         f"{GRADIENT_TOLERANCE:.0e}", verdict(error, GRADIENT_TOLERANCE)))
        return rows

    # ---- training

    def training(self, family):
        """50 steps beside the CPU's; the same in two halves; frozen tensors."""
        done = sutor("init-model", "--family", family, "--seed", 3, "--out", self.folder / family)
        if done.code != 0:
            self.table.row(f"{family}, model", DEVICE, "-", "-", f"FAILED: {done.why()}")
            return
        (self.folder / f"{family}.json").write_text(json.dumps(
            {"experts": TRAINED[family], "shared_experts": False, "non_expert_modules": False}))
        runs = {"cpu": ["cpu", [STEPS]], "whole": [DEVICE, [STEPS]],
                "halves": [DEVICE, [STEPS // 2, STEPS]]}
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            ended = dict(zip(runs, pool.map(lambda name: self.train(family, name, *runs[name]),
                                            runs)))
        for name, done in ended.items():
            if done.code != 0:
                self.table.row(f"{family}, training ({name})", runs[name][0], "-", "-",
                               f"FAILED: {done.why()}")
        if any(done.code != 0 for done in ended.values()):
            return
        self.of_gpu(f"{family}, {STEPS} losses beside the CPU's", f"{TRAINING_TOLERANCE:.0e}")
        cpu, whole, halves = (self.metrics(family, name) for name in runs)
        error = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(whole, cpu, strict=True))
        self.table.row(f"{family}, {STEPS} losses beside the CPU's", DEVICE, error,
                       f"{TRAINING_TOLERANCE:.0e}", verdict(error, TRAINING_TOLERANCE))
        differing = [key for key in ("loss", "grad_norm")
                     if [line[key] for line in whole] != [line[key] for line in halves]]
        differing += self.differing_files(family)
        self.table.row(f"{family}, resumed at {STEPS // 2}", DEVICE, "-", "same bits",
                       f"FAILED: {', '.join(differing)} differ" if differing else "ok")
        for name, done in ended.items():
            is_frozen = "frozen tensors unchanged of" in done.text
            self.table.row(f"{family}, frozen tensors ({name})", runs[name][0], "-", "same bits",
                           "ok" if is_frozen else "FAILED: no line of `check` says so")

    def train(self, family, name, device, stops):
        recipe = self.folder / f"{family}.{name}.yaml"
        recipe.write_text(RECIPE.format(folder=self.folder, family=family, device=device,
                                        tokens=HERE / "data" / "small.tokens.h5"))
        for stop in stops:
            done = sutor("train", recipe, "--set", f"output={self.folder / f'{family}.{name}'}",
                         "--set", f"schedule.steps={stop}",
                         *(["--resume"] if stop != stops[0] else []), **SIDE_BY_SIDE)
            if done.code != 0:
                print(done.text[-2000:], flush=True)
                break
        return done

    def metrics(self, family, name):
        lines = (self.folder / f"{family}.{name}" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def differing_files(self, family):
        """Of the last checkpoints, but for the manifest, which has times."""
        whole, halves = (self.folder / f"{family}.{name}" / "checkpoints" / f"step-{STEPS:08}"
                         for name in ("whole", "halves"))
        names = sorted({path.name for path in [*whole.iterdir(), *halves.iterdir()]})
        return [name for name in names if name != "MANIFEST.json" and
                ((whole / name).read_bytes() != (halves / name).read_bytes())]

    # ---- memory and communication

    def one_rank_of_nccl(self):
        if NO_GPU:
            self.of_gpu("NCCL, one rank", "same bits")
            return
        done = run([HERE / "bin" / "sutor_gpu_test"])
        passed = len(re.findall(r"^\[ +OK \]", done.text, re.MULTILINE))
        is_right = done.code == 0 and passed and "[  SKIPPED ]" not in done.text
        if not is_right:
            print(done.text[-2000:], flush=True)
        self.table.row("NCCL, one rank", "cuda", "-", "same bits",
                       f"ok, {passed} tests" if is_right else f"FAILED: {done.why()}")

    def memcheck(self):
        """compute-sanitizer over some tests of every operator, whose shapes are small."""
        if NO_GPU:
            self.of_gpu("compute-sanitizer memcheck", "0 errors")
            return
        tool = sanitizer()
        if tool is None:
            self.table.row("compute-sanitizer memcheck", "cuda", "-", "0 errors",
                           "not measured: compute-sanitizer was not found")
            return
        chosen = [name for names in listed_tests(OPERATOR_TESTS).values()
                  for name in spread(names, 4)]
        # Without torch's cache, which hands out parts of larger pieces of memory.
        done = run([tool, "--tool", "memcheck", "--error-exitcode", "99", "--print-limit", "20",
                    HERE / "bin" / "operators_test", f"--gtest_filter={':'.join(chosen)}"],
                   seconds=MEMCHECK_SECONDS, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        errors = re.search(r"ERROR SUMMARY: (\d+) error", done.text)
        passed = len(re.findall(r"^\[ +OK \]", done.text, re.MULTILINE))
        if done.code is None:
            result = f"not measured: {passed} of {len(chosen)} tests in {MEMCHECK_SECONDS} s"
            if "Invalid __" in done.text:
                result = "FAILED: errors before the time was over"
        elif done.code == 0 and errors and errors[1] == "0":
            result = f"ok, {passed} tests"
        else:
            result = f"FAILED: {done.why()}"
        if result.startswith("FAILED"):
            print(done.text[-4000:], flush=True)
        self.table.row("compute-sanitizer memcheck", "cuda", errors[1] if errors else "-",
                       "0 errors", result)


def recorded_errors(cases):
    """The largest one of each dtype, of tests that record `error...`; of others only that they
    passed or failed is known."""
    largest = {}
    for case in cases:
        dtype = "bf16" if "Bf16" in case["name"] else "fp32"
        errors = [float(value) for key, value in case.items() if key.startswith("error")]
        if errors:
            largest[dtype] = max([*errors, largest.get(dtype, 0)])
    return ", ".join(f"{dtype} {error:.0e}" for dtype, error in sorted(largest.items())) or "-"


def listed_tests(pattern):
    """Of operators_test: suite -> full names of the tests that match."""
    done = run([HERE / "bin" / "operators_test", "--gtest_list_tests", f"--gtest_filter={pattern}"])
    suites = {}
    for line in done.text.splitlines():
        if re.fullmatch(r"\S+\.(\s+#.*)?", line):
            suite = line.split()[0][:-1]
        elif line.startswith("  ") and line.split():
            suites.setdefault(suite, []).append(f"{suite}.{line.split()[0]}")
    return suites


def spread(items, count):
    """At most so many, from everywhere."""
    return items[::max(1, -(-len(items) // count))]


def sanitizer():
    for place in (None, "/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer"):
        found = shutil.which("compute-sanitizer", path=place)
        if found:
            return found
    return None


def main():
    with tempfile.TemporaryDirectory(prefix="sutor-check-") as folder:
        checks = Checks(pathlib.Path(folder))
        checks.operators()
        checks.golden_models()
        for family in TRAINED:
            checks.training(family)
        checks.one_rank_of_nccl()
        checks.memcheck()
        checks.table.show()
        if seconds_left() < 0:
            print("the time was over before the end")
        sys.exit(1 if checks.table.any_failed() else 0)


if __name__ == "__main__":
    main()
