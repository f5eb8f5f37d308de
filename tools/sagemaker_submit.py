#!/usr/bin/env python3
"""Submits a training job to SageMaker, with the container of tools/container/sagemaker.Dockerfile:

    sagemaker_submit.py --sagemaker_image IMAGE --role ARN --bucket BUCKET \\
        --model_data s3://models/Qwen3-30B-A3B/ --train_dataset train.jsonl \\
        --eval_dataset held.jsonl --instance_type ml.p4d.24xlarge --gpus_per_process 8 \\
        --expert_parallel 8 --spot --wait

Options have the names of the AWS sample for ESFT; --set takes any recipe key. Only what is given is
sent: the rest is as the recipe has it, or sutor's default. --dry-run prints the request alone.
Needs boto3 (pip install boto3), but for --dry-run.
"""

import argparse
import json
import os
import re
import sys
import time

from sutor_sagemaker.parameters import MODES, OWN, RECIPE_KEYS, BadParameter
from sutor_sagemaker.request import build

SWITCHES = ("train_shared_experts", "train_non_expert_modules", "use_wandb")
CHANNELS = ("train_dataset", "eval_dataset", "expert_config_dir", "recipe", "mode")
ENDED = ("Completed", "Failed", "Stopped")


def pair(text):
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    return key, value


def parser():
    parse = argparse.ArgumentParser(
        description=__doc__.split("\n", maxsplit=1)[0], allow_abbrev=False,
        epilog="Beside these, every recipe key: --set optim.betas=[0.9,0.95]")
    job = parse.add_argument_group("the job")
    job.add_argument("--sagemaker_image", required=True, help="the image's URI in ECR")
    job.add_argument("--role", default=os.environ.get("SAGEMAKER_ROLE"),
                     help="the ARN of the execution role (default: SAGEMAKER_ROLE)")
    job.add_argument("--job_name", help="default: sutor- and the time")
    job.add_argument("--bucket", help="for local files, and for output without --output")
    job.add_argument("--prefix", default="sutor", help="folder in the bucket")
    job.add_argument("--output", help="s3:// path of what the job makes")
    job.add_argument("--instance_type", default="ml.p4d.24xlarge")
    job.add_argument("--instance_count", type=int, default=1)
    job.add_argument("--volume_size", type=int, default=500, help="GB; of instances without disks")
    job.add_argument("--max_run_hours", type=float, default=24)
    job.add_argument("--spot", action="store_true", help="cheaper, and may be interrupted")
    job.add_argument("--max_wait_hours", type=float, help="of --spot; default: twice the run")
    job.add_argument("--shared", metavar="FS:/FOLDER", help="FSx for Lustre, for several hosts")
    job.add_argument("--subnets", nargs="+")
    job.add_argument("--security_group_ids", nargs="+")
    job.add_argument("--environment", type=pair, action="append", metavar="NAME=VALUE")
    job.add_argument("--region")
    job.add_argument("--endpoint_url", help="another address of the service")
    job.add_argument("--wait", action="store_true", help="until the job has ended; exit 1 if badly")
    job.add_argument("--dry-run", action="store_true")
    what = parse.add_argument_group("what it does")
    what.add_argument("--mode", choices=MODES)
    what.add_argument("--model_data", help="s3:// path or folder of the model's files")
    what.add_argument("--train_dataset", help="s3:// path, file or folder of rows")
    what.add_argument("--eval_dataset", help="the same, for evaluation")
    what.add_argument("--recipe", help="s3:// path or file")
    what.add_argument("--expert_config_dir", help="an expert config: nothing is scored")
    for name in (*RECIPE_KEYS, *OWN):
        if name in CHANNELS or name == "tensorboard_dir" or name == "output":
            continue
        key = RECIPE_KEYS[name][0] if name in RECIPE_KEYS else OWN[name]
        if name in SWITCHES:
            what.add_argument(f"--{name}", action="store_const", const="true", help=key)
        else:
            what.add_argument(f"--{name}", help=key)
    what.add_argument("--set", type=pair, action="append", default=[], metavar="KEY=VALUE")
    return parse


def hyperparameters(args):
    values = {name: getattr(args, name) for name in ("mode", *RECIPE_KEYS, *OWN)
              if name not in CHANNELS[:4] and name != "output"
              and getattr(args, name, None) is not None}
    for key, value in args.set:
        if key in values:
            raise BadParameter(f"{key} is given twice")
        values[key] = value
    return values


def check(args):
    if not args.role:
        raise BadParameter("--role is not given and SAGEMAKER_ROLE is not set: the ARN of the role "
                           "that the job runs as")
    if args.job_name and not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", args.job_name):
        raise BadParameter(f"--job_name {args.job_name}: expected at most 63 letters, digits and "
                           "hyphens, with none of the latter at an end")
    if args.instance_count < 1 or args.max_run_hours <= 0:
        raise BadParameter("--instance_count and --max_run_hours: expected numbers above 0")


def client(args, name):
    import boto3
    endpoint = args.endpoint_url if name == "sagemaker" else None
    return boto3.session.Session(region_name=args.region).client(name, endpoint_url=endpoint)


def wait(service, name):
    """0 when the job completed, else 1."""
    last = None
    while True:
        job = service.describe_training_job(TrainingJobName=name)
        state = job["TrainingJobStatus"], job.get("SecondaryStatus", "")
        if state != last:
            print(f"{name}: {state[0]}, {state[1]}", flush=True)
            last = state
        if state[0] in ENDED:
            if job.get("FailureReason"):
                print(job["FailureReason"], file=sys.stderr)
            artifacts = job.get("ModelArtifacts", {}).get("S3ModelArtifacts")
            if artifacts:
                print(f"model: {artifacts}")
            return 0 if state[0] == "Completed" else 1
        time.sleep(float(os.environ.get("SUTOR_SAGEMAKER_POLL", "20")))


def main():
    args = parser().parse_args()
    name = args.job_name or time.strftime("sutor-%Y%m%d-%H%M%S", time.gmtime())
    try:
        check(args)
        request, uploads = build(args, name, hyperparameters(args))
    except BadParameter as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.dry_run:
        print(json.dumps(request, indent=2))
        return 0
    try:
        import boto3.exceptions
        import botocore.exceptions as of_boto
    except ImportError:
        print("error: boto3 is missing; pip install boto3, or print the request with --dry-run",
              file=sys.stderr)
        return 2
    try:
        for path, key in uploads:
            print(f"{path} -> s3://{args.bucket}/{key}", flush=True)
            client(args, "s3").upload_file(path, args.bucket, key)
        service = client(args, "sagemaker")
        print(service.create_training_job(**request)["TrainingJobArn"], flush=True)
        return wait(service, name) if args.wait else 0
    except (of_boto.BotoCoreError, of_boto.ClientError, boto3.exceptions.Boto3Error) as error:
        print(f"error: the service refused or was not reached: {error}", file=sys.stderr)
        return 6


if __name__ == "__main__":
    sys.exit(main())
