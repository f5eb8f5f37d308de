#!/usr/bin/env python3
"""tools/sagemaker_submit.py against a stand-in of the service's API and of S3: what it sends, what
it refuses before it sends anything, and how it ends.

  .venv/bin/python tests/build/sagemaker_submit_test.py build/sutor [-v] [Class.test]...

Needs boto3 (tools/setup.sh --tests); exits 77 without.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools" / "sagemaker_submit.py"
sys.path.insert(0, str(ROOT / "tools"))
from sutor_sagemaker.request import METRICS  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/sutor:1"


class Service(http.server.ThreadingHTTPServer):
    """Keeps every request; answers those of a job as told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.objects = [], {}
        self.states = ["Completed"]
        self.refusal = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return parts

    def answer(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_PUT(self):
        self.server.objects[self.path] = self.body()
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        action = self.headers["X-Amz-Target"].split(".")[1]
        request = json.loads(self.body())
        self.server.requests.append((action, request))
        if self.server.refusal:
            self.answer({"__type": "ValidationException", "message": self.server.refusal}, 400)
        elif action == "CreateTrainingJob":
            self.answer({"TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/"
                                           + request["TrainingJobName"]})
        else:
            state = self.server.states.pop(0)
            self.answer({"TrainingJobName": request["TrainingJobName"], "TrainingJobStatus": state,
                         "SecondaryStatus": state, "FailureReason": "error[E0701]: diverged"
                         if state == "Failed" else ""})


class Submit(unittest.TestCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.server_close)
        self.addCleanup(self.service.shutdown)
        folder = tempfile.TemporaryDirectory(prefix="sutor-submit-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "rows.jsonl").write_text('{"text": "a"}\n')

    def run_script(self, *options, base=None):
        if base is None:
            base = ["--sagemaker_image", IMAGE, "--role", ROLE, "--model_data", "s3://models/tiny/"]
        environment = {"PATH": os.environ["PATH"], "AWS_ACCESS_KEY_ID": "none",
                       "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "eu-west-1",
                       "AWS_ENDPOINT_URL_S3": self.service.url, "AWS_MAX_ATTEMPTS": "1",
                       "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(self.folder),
                       "SUTOR_SAGEMAKER_POLL": "0.05", "NO_PROXY": "127.0.0.1"}
        return subprocess.run(
            [sys.executable, str(SCRIPT), *base, "--endpoint_url", self.service.url,
             *map(str, options)], env=environment, cwd=self.folder, text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)

    def test_the_request_holds_channels_spot_checkpoints_and_parameters_as_strings(self):
        done = self.run_script(
            "--bucket", "mine", "--job_name", "job-1", "--train_dataset", "rows.jsonl",
            "--eval_dataset", "s3://data/held/", "--learning_rate", "7e-6", "--warmup_ratio", "0.1",
            "--score_function", "gate", "--score_threshold", "0.1", "--train_shared_experts",
            "--gpus_per_process", "8", "--set", "optim.eps=1e-9", "--spot", "--max_run_hours", "2",
            "--instance_type", "ml.p4d.24xlarge", "--mode", "both", "--environment", "A=b")
        self.assertEqual(done.returncode, 0, done.stderr)
        (action, request), = self.service.requests
        self.assertEqual(action, "CreateTrainingJob")
        self.assertEqual(request["TrainingJobName"], "job-1")
        self.assertEqual(request["RoleArn"], ROLE)
        self.assertEqual(request["AlgorithmSpecification"]["TrainingImage"], IMAGE)
        self.assertEqual(request["HyperParameters"], {
            "train_dataset": "/opt/ml/input/data/train/rows.jsonl", "learning_rate": "7e-6",
            "warmup_ratio": "0.1", "score_function": "gate", "score_threshold": "0.1",
            "train_shared_experts": "true", "gpus_per_process": "8", "optim.eps": "1e-9",
            "mode": "both"})
        uris = {channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
                for channel in request["InputDataConfig"]}
        self.assertEqual(uris, {"model": "s3://models/tiny/", "eval": "s3://data/held/",
                                "train": "s3://mine/sutor/job-1/train/"})
        self.assertTrue(request["EnableManagedSpotTraining"])
        self.assertEqual(request["StoppingCondition"],
                         {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400})
        self.assertEqual(request["CheckpointConfig"]["LocalPath"], "/opt/ml/checkpoints")
        self.assertEqual(request["TensorBoardOutputConfig"]["LocalPath"],
                         "/opt/ml/output/tensorboard")
        self.assertEqual(request["Environment"], {"A": "b"})
        self.assertEqual(request["ResourceConfig"]["InstanceCount"], 1)
        (path, content), = self.service.objects.items()
        self.assertEqual(path, "/mine/sutor/job-1/train/rows.jsonl")
        self.assertIn(b'{"text": "a"}', content)

    def test_several_hosts_get_a_shared_file_system(self):
        done = self.run_script("--output", "s3://out/x", "--instance_count", "2", "--shared",
                               "fs-0123456789abcdef0:/fsx/sutor", "--subnets", "subnet-1",
                               "--security_group_ids", "sg-1")
        self.assertEqual(done.returncode, 0, done.stderr)
        request = self.service.requests[0][1]
        shared = request["InputDataConfig"][-1]
        self.assertEqual(shared["ChannelName"], "shared")
        self.assertEqual(shared["DataSource"]["FileSystemDataSource"]["FileSystemAccessMode"], "rw")
        self.assertEqual(request["VpcConfig"],
                         {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]})

    def test_what_cannot_work_is_refused_before_anything_is_sent(self):
        base = ["--sagemaker_image", IMAGE, "--role", ROLE]
        data = ["--output", "s3://out/x", "--model_data", "s3://m/x"]
        for options, words in (
                (["--output", "s3://out/x", "--instance_count", "2", "--model_data", "s3://m/x"],
                 "needs --shared"),
                (["--model_data", "s3://m/x"], "--bucket"),
                (["--output", "s3://out/x"], "no model"),
                (["--output", "s3://out/x", "--model", "Qwen/Qwen3-30B-A3B"], "--model_data"),
                ([*data, "--train_dataset", "none.jsonl"], "none.jsonl does not exist"),
                ([*data, "--train_dataset", "rows.jsonl"], "no --bucket"),
                ([*data, "--set", "learning_rat=1"], "did you mean `learning_rate`"),
                ([*data, "--learning_rate", "1", "--set", "optim.lr=2"], "both set optim.lr"),
                ([*data, "--warmup_ratio", "much"], "warmup_ratio=much"),
                ([*data, "--world_size", "4"], "world_size=4"),
                ([*data, "--job_name", "a_b"], "--job_name a_b"),
                ([*data, "--spot", "--max_run_hours", "5", "--max_wait_hours", "2"],
                 "--max_wait_hours")):
            with self.subTest(options=options):
                done = self.run_script(*options, base=base)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("error: ", done.stderr)
                self.assertIn(words, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(self.service.requests, [])
        self.assertEqual(self.service.objects, {})

    def test_waiting_ends_as_the_job_does(self):
        self.service.states = ["InProgress", "InProgress", "Completed"]
        done = self.run_script("--output", "s3://out/x", "--wait")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("InProgress, InProgress"), 1, done.stdout)
        self.service.states = ["Failed"]
        done = self.run_script("--output", "s3://out/x", "--wait")
        self.assertEqual(done.returncode, 1)
        self.assertIn("error[E0701]: diverged", done.stderr)

    def test_a_refusal_of_the_service_is_one_message(self):
        self.service.refusal = "1 validation error detected: no such instance type"
        done = self.run_script("--output", "s3://out/x")
        self.assertEqual(done.returncode, 6)
        self.assertIn("no such instance type", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class Metrics(unittest.TestCase):
    LINES = [
        "step 12/300 | epoch 0.40 | loss 1.2345 | grad norm 0.52 | lr 1e-05 | 1,234 tok/s (617"
        " in loss) | left 3m",
        "step 13/300 | epoch 1.00 | loss 0.9 (law 0.7110, chat -) | balance 0.01 | grad norm"
        " 1.2e+03 | lr 7.5e-06",
        "eval 100 | task: loss 0.4321, ppl 1.5405, token_acc 0.8765",
    ]

    def found(self, name):
        return [float(m.group(1)) for line in self.LINES if (m := re.search(METRICS[name], line))]

    def test_the_regexes_take_one_number_from_the_lines_of_a_training(self):
        self.assertEqual(self.found("train:loss"), [1.2345, 0.9])
        self.assertEqual(self.found("train:grad_norm"), [0.52, 1200.0])
        self.assertEqual(self.found("train:lr"), [1e-5, 7.5e-6])
        self.assertEqual(self.found("eval:loss"), [0.4321])
        self.assertEqual(self.found("eval:ppl"), [1.5405])
        self.assertEqual(self.found("eval:token_acc"), [0.8765])


if __name__ == "__main__":
    sys.argv.pop(1)  # the program, which nothing here starts
    try:
        import boto3  # noqa: F401
    except ImportError:
        print("skipped: without boto3 (tools/setup.sh --tests)")
        sys.exit(77)
    unittest.main()
