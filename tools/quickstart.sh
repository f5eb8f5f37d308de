#!/usr/bin/env bash
# The whole way of sutor on real text, from a bare machine to a result table: sets up, pre-trains a
# small mixture-of-experts model, and fine-tunes the experts that German manual pages use.
# Use: bash tools/quickstart.sh [--quick]
#   --quick: a few steps and a small held-out set: shows the way in a minute or two, not the result.
# Everything stays in quickstart/ (or quickstart/quick/): recipes, text, runs, checkpoints, exports.
# Run it again to continue after it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/common.sh

folder=quickstart held_out=100000 pretrain=() tune=()
case ${1:-} in
  '') ;;
  --quick)
    folder=quickstart/quick held_out=20000
    pretrain=(--set schedule.steps=120)
    tune=(--set schedule.steps=30 --set esft.score.tokens=32768)
    ;;
  -h | --help)
    sed -n '2,7s/^# //p' "$0"
    exit 0
    ;;
  *)
    echo "error: unknown option $1; the only one is --quick" >&2
    exit 2
    ;;
esac

bash tools/setup.sh
sutor=$PWD/$build_dir/sutor
python=$PWD/.venv/bin/python
root=$PWD

# show COMMAND...: prints a command as one would type it in the quickstart's folder, and runs it.
show() {
  printf '\n$ %s\n' "${*/#$sutor/sutor}"
  "$@"
}

say "1/5 text and tokenizer"
"$python" tools/quickstart/fetch_text.py --cache quickstart/cache --out "$folder/data" \
  --held-out-bytes "$held_out"
cp recipes/quickstart/*.yaml "$folder/"
cd "$folder"
echo "From here on there are only sutor verbs and recipe files, in $PWD."

say "2/5 an untrained model"
if [[ ! -f untrained/config.json ]]; then
  # The rest is as in size "tiny": MLA with 4 heads, 1 dense layer, 2 shared experts.
  show "$sutor" init-model --family deepseek_v2 --size tiny --seed 1 --dtype fp32 --out untrained \
    --tokenizer data/tokenizer.json --set vocab_size=2048 --set hidden_size=128 \
    --set num_hidden_layers=4 --set intermediate_size=384 --set kv_lora_rank=64 \
    --set qk_nope_head_dim=32 --set qk_rope_head_dim=16 --set v_head_dim=32 \
    --set n_routed_experts=64 --set num_experts_per_tok=6 --set moe_intermediate_size=32 \
    --set routed_scaling_factor=4.0 --set rope_scaling=null --set max_position_embeddings=512
fi
say "3/5 pre-training of all its parameters on eight domains"
show "$sutor" run pretrain.yaml ${pretrain[@]+"${pretrain[@]}"}
say "4/5 ESFT: the experts that German manual pages use"
show "$sutor" run german.yaml ${tune[@]+"${tune[@]}"}
say "5/5 the control: as many experts, drawn at random"
show "$sutor" run random.yaml ${tune[@]+"${tune[@]}"}

say "the result"
"$python" "$root/tools/quickstart_summary.py" --model base/export/merged --task man_de \
  "ESFT, token, p = 0.2=german" "as many random experts=random"
say "done. Look around in $folder/: german/export/merged is a Hugging Face model;" \
  "german/heat_map.svg shows the scores"
