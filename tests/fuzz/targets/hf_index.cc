// model.safetensors.index.json.
#include "checkpoint/huggingface/hf_index.h"

#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) { read_hf_index(input_file(bytes, kIndexFile)); }

std::vector<std::string> seeds() {
  const std::vector<SafetensorsDeclaration> tensors = {
      {"model.norm.weight", "BF16", {16}}, {"model.embed_tokens.weight", "BF16", {64, 16}}};
  return {plan_shards(tensors, 64).index_json};
}

}  // namespace

const FuzzTarget kHfIndex{"hf_index", read, seeds};

}  // namespace sutor::fuzz
