"""A log in Weights & Biases, offline: every number in the file that `wandb sync` would send is that
of the training's own logs."""

import json
import math
import struct
import sys

import pytest

import models
import runner

wandb_internal_pb2 = pytest.importorskip("wandb.proto.wandb_internal_pb2")

# The file of an offline run: a header of 7 bytes, then records in blocks of 32 KiB, each in one
# piece or several: checksum, length, kind of piece, bytes.
HEADER, BLOCK = 7, 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records_of(path):
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, record = HEADER, b""
    while at < len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # a header does not cross blocks
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece = data[at + 7:at + 7 + length]
        at += 7 + length
        record = piece if kind in (FULL, FIRST) else record + piece
        if kind in (FULL, LAST):
            parsed = wandb_internal_pb2.Record()
            parsed.ParseFromString(record)
            yield parsed


def items_of(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def recorded(folder):
    """(the run's record, [values of each call of log], summary, exit code) of an offline run."""
    (path, ) = folder.glob("offline-run-*/*.wandb")
    run, history, summary, exit_code = None, [], {}, None
    for record in records_of(path):
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = record.run
        elif kind == "history":
            history.append(items_of(record.history.item))
        elif kind == "summary":
            summary |= items_of(record.summary.update)
        elif kind == "exit":
            exit_code = record.exit.exit_code
    return run, history, summary, exit_code


def test_offline_run_holds_every_number_of_the_logs(program, model_dir, tmp_path):
    shape = models.shape("ds-lite")
    rows = runner.write_rows(models.sample_ids(shape), tmp_path / "rows.jsonl")
    run = runner.Run(program, tmp_path / "job", model_dir(shape), rows,
                     {"experts": {"1": [0, 3]}, "shared_experts": False,
                      "non_expert_modules": False}, steps=3)
    run.set_section("log", {"experts": "detailed",
                            "wandb": {"project": "mine", "name": "first", "mode": "offline",
                                      "tags": ["esft"]}})
    run.set_section("eval", {"before_training": True})
    run.set_section("data", {"eval": [{"path": str(rows), "name": "task"}]})
    run.prepare()
    result = run.train(ranks=2, ep=2, timeout=300, env={"SUTOR_PYTHON": sys.executable})
    assert "W0310" not in result.output, result
    began, history, summary, exit_code = recorded(run.output / "wandb")

    kept = json.loads((run.output / "wandb.json").read_text())
    assert (began.project, began.display_name, began.run_id) == ("mine", "first", kept["id"])
    assert list(began.tags) == ["esft"] and exit_code == 0
    config = items_of(began.config.update)
    assert config["optim"]["lr"] == 1e-3 and config["optim"]["eps"] == 1e-8
    assert config["parallel"]["ep"] == 2 and config["log"]["wandb"]["entity"] is None

    def is_number(value):
        return isinstance(value, (int, float)) and math.isfinite(value)

    expected = []
    for line in runner.read_lines(run.output / "eval.jsonl"):
        expected += [(line["step"], f"eval/{line['set']}/{key}", value)
                     for key, value in line.items() if key != "step" and is_number(value)]
    for line in run.metrics():
        expected += [(line["step"], f"train/{key}", value) for key, value in line.items()
                     if key != "step" and is_number(value)]
        experts = line["experts"]
        expected += [(line["step"], f"experts/{key}", value) for key, value in experts.items()
                     if key not in ("layer", "expert") and is_number(value)]
        expected += [(line["step"], f"experts/layer_{layer['layer']}/{key}", value)
                     for layer in experts["layers"] for key, value in layer.items()
                     if key != "layer" and is_number(value)]
    found = {(values["step"], key): value for values in history for key, value in values.items()}
    assert len(expected) > 100
    for step, key, value in expected:
        assert found[step, key] == value, (step, key)
    known = {(step, key) for step, key, _ in expected}
    assert {key for key in found if not key[1].startswith("_") and key[1] != "step"} == known
    assert summary["steps"] == 3
