"""What transformers and sutor make of config.json when a key is missing, null, in its old or its
new place, or says the same as another key: the table of docs/config_keys.md, whose cells are run on
a tiny model of the family. One cell in five of every row is run, so that each row is; all of the
rows that have shown faults; and every one with SUTOR_EVERY_CELL=1. Rewrite the table with

  SUTOR=build/sutor python tests/interop/families/test_config_keys.py
"""

import json
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import pytest
import torch
import transformers

import models
import runner

TABLE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "config_keys.md"
GONE = "gone"  # as a value: the key is left out

SHAPES = {"deepseek_v2": "ds-qlora-groups", "deepseek_v3": "d3-groups",
          "glm4_moe": "g4-qk-norm-groups", "gpt_oss": "go-20b", "mixtral": "mx-gqa",
          "olmoe": "ol-gqa-clip", "qwen2_moe": "q2-gqa", "qwen3_moe": "qw-gqa"}
MLA = ["deepseek_v2", "deepseek_v3"]
QWEN = ["qwen2_moe", "qwen3_moe"]
ROPE = ["deepseek_v3", "glm4_moe", "gpt_oss", "qwen3_moe"]  # what differs is the same in others
EVERY = list(SHAPES)

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
OLD_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
PLAIN = {"rope_type": "default", "rope_theta": 500.0}


def rope(**values):
    """rope_parameters with YaRN; GONE takes a key out."""
    section = YARN | {"rope_theta": 700.0} | values
    return {"rope_parameters": {k: v for k, v in section.items() if v != GONE}}


def old(**values):
    return {"rope_parameters": GONE} | values


def each_null(*keys):
    return [(None, {key: None}) for key in keys]


def each_gone(*keys):
    return [(None, {key: GONE}) for key in keys]


# (families, [(title, change)]); without a title, the change is its own.
ROWS = [
    (ROPE, [
        ("rope: new place, YaRN", rope()),
        ("rope: old place, `rope_type`", old(rope_theta=700.0, rope_scaling=YARN)),
        ("rope: old place, `type`", old(rope_theta=700.0, rope_scaling=OLD_YARN)),
        ("rope: both places, YaRN in the old one",
         {"rope_parameters": PLAIN, "rope_scaling": YARN}),
        ("rope: both places, and `rope_theta` beside",
         {"rope_parameters": PLAIN, "rope_scaling": YARN, "rope_theta": 700.0}),
        ("rope: both places, YaRN in the new one",
         rope() | {"rope_scaling": {"rope_type": "default"}}),
        ("rope: `rope_scaling` null beside YaRN", rope() | {"rope_scaling": None}),
        ("rope: `rope_scaling` {} beside YaRN", rope() | {"rope_scaling": {}}),
        ("rope: `rope_parameters` null beside YaRN",
         {"rope_parameters": None, "rope_scaling": YARN}),
        ("rope: no section", old()),
        ("rope: no section, `rope_theta`", old(rope_theta=700.0)),
        ("rope: both sections null", {"rope_parameters": None, "rope_scaling": None}),
        ("rope: `rope_parameters` {}", {"rope_parameters": {}, "rope_theta": 700.0}),
        ("rope: a section for each kind of layer", {"rope_parameters": {"full_attention": PLAIN}}),
        ("rope: `linear`", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        ("rope: `mrope`", {"rope_scaling": {"type": "mrope", "factor": 2.0}}),
        ("`type` beside another `rope_type`", rope(type="default")),
        ("`rope_type` null", rope(rope_type=None)),
        ("`rope_theta` inside and another beside", {"rope_parameters": PLAIN, "rope_theta": 700.0}),
        ("`rope_theta` inside, null beside", {"rope_parameters": PLAIN, "rope_theta": None}),
        ("`rope_theta` null beside", old(rope_theta=None)),
        ("`rope_theta` null inside", rope(rope_theta=None)),
        ("`original_max_position_embeddings` beside",
         rope(original_max_position_embeddings=GONE) | {"original_max_position_embeddings": 8}),
        ("`original_max_position_embeddings` inside and another beside",
         rope() | {"original_max_position_embeddings": 16}),
        ("`original_max_position_embeddings` inside, null beside",
         rope() | {"original_max_position_embeddings": None}),
        ("`original_max_position_embeddings` null inside",
         rope(original_max_position_embeddings=None)),
        ("`original_max_position_embeddings` nowhere", rope(original_max_position_embeddings=GONE)),
        ("`original_max_position_embeddings` nowhere, no `max_position_embeddings`",
         rope(original_max_position_embeddings=GONE) | {"max_position_embeddings": GONE}),
        ("`factor` missing", rope(factor=GONE)),
        ("`factor` null", rope(factor=None, original_max_position_embeddings=160)),
        ("`beta_fast`, `beta_slow` null", rope(beta_fast=None, beta_slow=None)),
        ("`mscale_all_dim` alone", rope(mscale_all_dim=0.7)),
        ("`mscale` null", rope(mscale=None, mscale_all_dim=0.7)),
        ("`attention_factor` null", rope(attention_factor=None)),
        ("`truncate` null", rope(truncate=None)),
        ("`partial_rotary_factor` beside",
         {"rope_parameters": PLAIN, "partial_rotary_factor": 0.5}),
        ("`partial_rotary_factor` inside and another beside",
         {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5},
          "partial_rotary_factor": 0.25}),
        ("`partial_rotary_factor` null beside",
         {"rope_parameters": PLAIN, "partial_rotary_factor": None}),
        ("`partial_rotary_factor` null inside",
         {"rope_parameters": PLAIN | {"partial_rotary_factor": None}}),
    ]),
    (["mixtral", "olmoe", "qwen2_moe", "deepseek_v2"], [
        ("rope: both places, YaRN in the old one",
         {"rope_parameters": PLAIN, "rope_scaling": YARN}),
        ("`original_max_position_embeddings` inside and another beside",
         rope() | {"original_max_position_embeddings": 16}),
        ("rope: no section", old()),
    ]),
    (EVERY, [
        ("`tie_word_embeddings` true over two tensors", {"tie_word_embeddings": True}),
        ("experts: `num_experts` says another number", {"num_experts": 4}),
        ("experts: `num_local_experts` says another number", {"num_local_experts": 4}),
        ("experts: only `num_experts`",
         {"n_routed_experts": GONE, "num_local_experts": GONE, "num_experts": "own"}),
        ("experts: only `num_local_experts`",
         {"n_routed_experts": GONE, "num_experts": GONE, "num_local_experts": "own"}),
        ("experts: only `n_routed_experts`",
         {"num_experts": GONE, "num_local_experts": GONE, "n_routed_experts": "own"}),
        (None, {"experts_per_token": 1}),
        ("only `experts_per_token`", {"experts_per_token": 2, "num_experts_per_tok": GONE}),
        (None, {"dtype": "float32", "torch_dtype": "bfloat16"}),
        (None, {"is_causal": False}),
        ("values for one layer", {"per_layer_config": {"1": {"rms_norm_eps": 0.1}}}),
        *each_null("tie_word_embeddings", "rms_norm_eps", "hidden_act"),
        *each_gone("hidden_act", "rms_norm_eps", "max_position_embeddings", "head_dim",
                   "tie_word_embeddings"),
    ]),
    (["glm4_moe", "gpt_oss", "mixtral", "olmoe", *QWEN],
     [*each_null("num_key_value_heads", "head_dim"), *each_gone("num_key_value_heads")]),
    (["deepseek_v3", "glm4_moe", "gpt_oss", "olmoe", "qwen3_moe"], each_null("attention_bias")),
    (MLA + ["glm4_moe"], [
        *each_null("q_lora_rank", "n_group", "topk_group", "first_k_dense_replace",
                   "n_shared_experts", "routed_scaling_factor", "norm_topk_prob", "topk_method",
                   "scoring_func", "moe_layer_freq"),
        *each_gone("q_lora_rank", "first_k_dense_replace", "n_shared_experts",
                   "routed_scaling_factor", "norm_topk_prob", "topk_method"),
        (None, {"q_lora_rank": 0}),
        (None, {"scoring_func": "softmax"}),
        (None, {"topk_method": "noaux_tc"}),
        (None, {"topk_method": "greedy"}),
        (None, {"norm_topk_prob": False}),
        ("`mlp_layer_types` beside `first_k_dense_replace`", {"mlp_layer_types": "all sparse"}),
    ]),
    (["deepseek_v3"], each_null("rope_interleave")),
    (["glm4_moe"], each_null("use_qk_norm") + each_gone("use_qk_norm", "attention_bias")),
    (["gpt_oss"], each_null("sliding_window", "layer_types", "swiglu_limit") +
     each_gone("sliding_window", "layer_types", "swiglu_limit", "swiglu_alpha", "attention_bias")),
    (["olmoe"], each_null("clip_qkv", "norm_topk_prob") + each_gone("clip_qkv", "norm_topk_prob")),
    (["qwen2_moe"], each_null("qkv_bias", "shared_expert_intermediate_size") +
     each_gone("qkv_bias")),
    (QWEN, each_null("use_sliding_window", "mlp_only_layers", "decoder_sparse_step",
                     "norm_topk_prob") +
     each_gone("mlp_only_layers", "decoder_sparse_step", "norm_topk_prob")),
    ([*QWEN, "mixtral", "gpt_oss"], [
        ("window of 4", {"sliding_window": 4}),
        ("window of 4, switched on", {"sliding_window": 4, "use_sliding_window": True}),
        ("window of 4, switched on, all layers full by `layer_types`",
         {"sliding_window": 4, "use_sliding_window": True, "layer_types": "all full"}),
        ("window of 4, all layers full by `layer_types`",
         {"sliding_window": 4, "layer_types": "all full"}),
        ("window of 4, all layers sliding by `layer_types`",
         {"sliding_window": 4, "layer_types": "all sliding"}),
        ("window null, switched on", {"sliding_window": None, "use_sliding_window": True}),
    ]),
]


FAULTY_ONCE = ("rope: both places, YaRN in the old one",
               "`original_max_position_embeddings` inside and another beside",
               "`tie_word_embeddings` true over two tensors")
ONE_IN = 1 if os.environ.get("SUTOR_EVERY_CELL") else 5


def title_of(change):
    """"`sliding_window` null", "`topk_method` \"greedy\""."""
    return ", ".join(f"`{key}` " + ("missing" if value == GONE else json.dumps(value))
                     for key, value in change.items())


def rows():
    """{title: (change, families)} in order."""
    result = {}
    for families, changes in ROWS:
        for title, change in changes:
            known = result.setdefault(title or title_of(change), (change, []))
            assert known[0] == change
            known[1].extend(f for f in families if f not in known[1])
    return result


def cells_to_run(family):
    """(title, change) of each."""
    for row, (title, (change, families)) in enumerate(rows().items()):
        if family in families:
            step = min(ONE_IN, len(families))
            if title in FAULTY_ONCE or (row + families.index(family)) % step == 0:
                yield title, change


def changed(config, change):
    result = dict(config)
    layers = config["num_hidden_layers"]
    words = {"own": models.experts_of(config), "all full": ["full_attention"] * layers,
             "all sliding": ["sliding_attention"] * layers, "all sparse": ["sparse"] * layers}
    for key, value in change.items():
        if value == GONE:
            result.pop(key, None)
        else:
            result[key] = words.get(value, value) if isinstance(value, str) else value
    return result


class Bench:
    """A tiny model of a family whose config.json changes, its weights never."""

    def __init__(self, program, family, folder):
        self.program, self.folder, self.known = program, folder, {}
        shape = models.shape(SHAPES[family])
        models.save(models.build(shape), folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.ids = models.sample_ids(shape, rows=1)
        runner.write_ids(self.ids, folder / "ids.json")

    def theirs(self):
        """transformers' logits, or None when it stops. Equal configs make equal models."""
        try:
            config = transformers.AutoConfig.from_pretrained(self.folder).to_dict()
        except Exception:  # whatever a config that it cannot use raises
            return None
        key = json.dumps(config, sort_keys=True, default=str)
        if key not in self.known:
            self.known[key] = self.compute()
        return self.known[key]

    def compute(self):
        try:
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=torch.float32, experts_implementation="eager",
                output_loading_info=True)
            if info["missing_keys"]:
                return None  # they would be random
            with torch.no_grad():
                return model.eval()(input_ids=self.ids).logits
        except Exception:
            return None

    def ours(self):
        """Logits, or the code of an error."""
        from safetensors.torch import load_file
        out = self.folder / "out.safetensors"
        result = self.program.run("logits", "--model", self.folder, "--ids",
                                  self.folder / "ids.json", "--out", out, code=None)
        if result.code == 0:
            return load_file(out)["logits"]
        assert result.code == 3, result
        return result.output.partition("error[")[2][:5]

    def cell(self, change):
        """What the table says of a change: `same`, `both stop`, an error code where only sutor
        stops, `goes on` where only transformers does."""
        models.write_json(changed(self.config, change), self.folder / "config.json")
        theirs, ours = self.theirs(), self.ours()
        if theirs is None:
            return "both stop" if isinstance(ours, str) else "goes on"
        if isinstance(ours, str):
            return ours
        return "same" if (theirs - ours).abs().max() <= 1e-4 * theirs.abs().max() else "DIFFER"


def table_of(text):
    """{title: {family: cell}} of the table in a Markdown text."""
    result = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == len(EVERY) + 1 and cells[0] in rows():
            result[cells[0]] = {f: c for f, c in zip(EVERY, cells[1:]) if c}
    return result


@pytest.mark.parametrize("family", EVERY)
def test_the_cells_of_the_table_are_so(program, tmp_path, family):
    table, bench, wrong = table_of(TABLE.read_text()), Bench(program, family, tmp_path / "m"), []
    for title, change in cells_to_run(family):
        found, said = bench.cell(change), table.get(title, {}).get(family)
        if found != said:
            wrong.append(f"{title}: {found}, the table says {said}")
    assert not wrong, "\n".join(wrong)


def test_no_cell_of_the_table_computes_another_model():
    cells = [cell for row in table_of(TABLE.read_text()).values() for cell in row.values()]
    assert len(cells) > 200
    assert set(cells) <= {"same", "both stop", "goes on", "E0302", "E0301", "E0314", "E0320",
                          "E0321", "E0353"}


def write_table():
    """Runs all cells, and replaces the table of the page."""
    program, lines = runner.Program(pathlib.Path(os.environ["SUTOR"]).resolve()), []
    found = {title: {} for title in rows()}
    for family in EVERY:  # the same order as in the tests
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(program, family, pathlib.Path(folder) / "m")
            for title, (change, families) in rows().items():
                if family in families:
                    found[title][family] = bench.cell(change)
                    print(family, title, found[title][family], flush=True)
    for title, cells in found.items():
        lines.append(f"| {title} | " + " | ".join(cells.get(f, "") for f in EVERY) + " |")
    head = [f"| config.json | {' | '.join(EVERY)} |", "|---" * (len(EVERY) + 1) + "|"]
    before, _, _ = TABLE.read_text().partition(head[0])  # the table ends the page
    TABLE.write_text(before + "\n".join(head + lines) + "\n")


if __name__ == "__main__":
    write_table()
