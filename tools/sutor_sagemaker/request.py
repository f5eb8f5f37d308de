"""A request to the service for one training job (CreateTrainingJob)."""

import os

from sutor_sagemaker.parameters import BadParameter, Parameters

# Of sutor's step and evaluation lines. The service wants one group, a number.
NUMBER = r"([-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?)"
METRICS = {
    "train:loss": rf"step [0-9]+/[0-9]+ \| epoch [0-9.]+ \| loss {NUMBER}",
    "train:grad_norm": rf"\| grad norm {NUMBER}",
    "train:lr": rf"\| lr {NUMBER}",
    "eval:loss": rf"eval [0-9]+ \| [^:]+:.* loss {NUMBER}",
    "eval:ppl": rf"eval [0-9]+ \| [^:]+:.* ppl {NUMBER}",
    "eval:token_acc": rf"eval [0-9]+ \| [^:]+:.* token_acc {NUMBER}",
}
TENSORBOARD = "/opt/ml/output/tensorboard"
CHECKPOINTS = "/opt/ml/checkpoints"


def is_s3(text):
    return text.startswith("s3://")


def split_s3(uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Channels:
    """Inputs of the job: what lies in S3 already, and local files that have to go there first."""

    def __init__(self, bucket, prefix):
        self.bucket, self.prefix = bucket, prefix
        self.inputs, self.uploads = [], []

    def add(self, name, source):
        """Returns the path in the container, where `source` is one file."""
        if is_s3(source):
            uri = source
        else:
            if not os.path.exists(source):
                raise BadParameter(f"{name}: {source} does not exist here")
            uri = self.upload(name, source)
        self.inputs.append({
            "ChannelName": name,
            "DataSource": {"S3DataSource": {
                "S3DataType": "S3Prefix", "S3Uri": uri,
                "S3DataDistributionType": "FullyReplicated"}}})
        file = "" if not is_s3(source) and os.path.isdir(source) else os.path.basename(source)
        return f"/opt/ml/input/data/{name}/{file}".rstrip("/")

    def upload(self, name, source):
        if not self.bucket:
            raise BadParameter(f"{name}: {source} is a local path, and there is no --bucket to put "
                               "it in; name one, or give an s3:// path")
        base = f"{self.prefix}/{name}/"
        if os.path.isdir(source):
            for folder, _, files in sorted(os.walk(source)):
                for file in sorted(files):
                    path = os.path.join(folder, file)
                    self.uploads.append((path, base + os.path.relpath(path, source)))
        else:
            self.uploads.append((source, base + os.path.basename(source)))
        return f"s3://{self.bucket}/{base}"

    def add_shared(self, text):
        """fs-0123:/folder: a file system that all hosts write in."""
        identity, _, folder = text.partition(":")
        if not identity.startswith("fs-") or not folder.startswith("/"):
            raise BadParameter(f"--shared {text}: expected a file system and a folder in it, such "
                               "as fs-0123456789abcdef0:/fsx/sutor")
        self.inputs.append({
            "ChannelName": "shared",
            "DataSource": {"FileSystemDataSource": {
                "FileSystemId": identity, "FileSystemAccessMode": "rw",
                "FileSystemType": "FSxLustre", "DirectoryPath": folder}}})


def build(args, name, hyperparameters):
    """(request, uploads): uploads are (local path, key) into args.bucket."""
    Parameters(hyperparameters)  # what the container would refuse
    prefix = f"{args.prefix.strip('/')}/{name}" if args.prefix else name
    channels = Channels(args.bucket, prefix)
    hyperparameters = dict(hyperparameters)
    for channel, source, parameter in (
            ("model", args.model_data, None), ("train", args.train_dataset, "train_dataset"),
            ("eval", args.eval_dataset, "eval_dataset"), ("config", args.recipe, "recipe"),
            ("expert_config", args.expert_config_dir, "expert_config_dir")):
        if not source:
            continue
        path = channels.add(channel, source)
        if parameter and path.count("/") == 6 and "." in path.rsplit("/", 1)[1]:
            hyperparameters[parameter] = path  # one file
        elif parameter == "recipe":
            raise BadParameter(f"--recipe {source}: expected one file")
    model = hyperparameters.get("model", "")
    if not args.model_data and not args.recipe and not model.startswith("/"):
        raise BadParameter(f"{'model ' + model if model else 'no model'}: give its files as "
                           "--model_data, an s3:// path or a folder here (the container downloads "
                           "nothing by name), or a --recipe that says where it is")
    if args.shared:
        channels.add_shared(args.shared)
    if args.instance_count > 1 and not args.shared:
        raise BadParameter(f"--instance_count {args.instance_count} needs --shared, a file system "
                           "that all hosts write in: /opt/ml/checkpoints is of each host alone")
    if bool(args.subnets) != bool(args.security_group_ids):
        raise BadParameter("--subnets and --security_group_ids belong together")
    if args.shared and not args.subnets:
        raise BadParameter("--shared needs --subnets and --security_group_ids, where the file "
                           "system can be reached")
    output = args.output or (f"s3://{args.bucket}/{prefix}/output" if args.bucket else "")
    if not is_s3(output):
        raise BadParameter("give --bucket, or --output as an s3:// path")
    seconds = int(args.max_run_hours * 3600)
    request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": args.sagemaker_image, "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": metric, "Regex": regex}
                                  for metric, regex in METRICS.items()]},
        "RoleArn": args.role,
        "InputDataConfig": channels.inputs,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {"InstanceType": args.instance_type,
                           "InstanceCount": args.instance_count,
                           "VolumeSizeInGB": args.volume_size},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        "CheckpointConfig": {"S3Uri": f"{output}/{name}/checkpoints", "LocalPath": CHECKPOINTS},
        "TensorBoardOutputConfig": {"S3OutputPath": f"{output}/tensorboard",
                                    "LocalPath": TENSORBOARD},
        "HyperParameters": hyperparameters,
        "EnableManagedSpotTraining": args.spot,
    }
    if args.environment:
        request["Environment"] = dict(args.environment)
    if args.spot:
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = int(args.max_wait_hours * 3600) \
            if args.max_wait_hours else 2 * seconds
        if request["StoppingCondition"]["MaxWaitTimeInSeconds"] < seconds:
            raise BadParameter("--max_wait_hours counts the run, too: it cannot be below "
                               "--max_run_hours")
    if args.subnets:
        request["VpcConfig"] = {"Subnets": args.subnets,
                                "SecurityGroupIds": args.security_group_ids}
    return request, channels.uploads
