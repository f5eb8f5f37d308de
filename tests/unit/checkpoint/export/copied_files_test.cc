// A merged export carries no other copy of the base's weights, and everything else of it.
#include "checkpoint/export/copied_files.h"

#include <gtest/gtest.h>

#include "checkpoint/huggingface/hf_directory.h"
#include "tests/support/stacked_model.h"

namespace sutor {
namespace {

using testing::TempDir;

std::set<std::filesystem::path> paths(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

class FilesOfABase : public ::testing::Test {
 protected:
  FilesOfABase() {
    dir_.write("config.json", R"({"dtype": "float32"})");
    testing::write_raw(dir_ / "model.safetensors",
                       {{"a", "F32", {1}, testing::to_bytes({1.0f}, DType::kF32)}});
  }
  CopiedFiles copied(bool anything_trained = true) {
    return copied_files(HfDirectory(dir_.path()), anything_trained, /*new_headers=*/false);
  }

  TempDir dir_;
};

TEST_F(FilesOfABase, OtherCopiesOfTheWeightsAreLeftOutInWhateverFormat) {
  const std::vector<std::string> weights = {
      "metal/model.bin",  // GPT-OSS as published
      "original/model.safetensors",
      "original/consolidated.00.pth",
      "consolidated.safetensors",
      "consolidated.safetensors.index.json",
      "pytorch_model-00001-of-00002.bin",
      "pytorch_model.bin.index.json",
      "model.safetensors.index.json",  // of another sharding, since there is one file
      "model.safetensors.index.fp8.json",
      "model-Q4_K_M.gguf",
      "Model-Q8_0.GGUF",
      "model.gguf.part1of2",
      "gguf/model-00001-of-00003.gguf",
      "tf_model.h5",
      "flax_model.msgpack",
      "rust_model.ot",
      "weights.npz",
      "onnx/model.onnx",
      "onnx/model.onnx_data",
      "adapter_config.json",
      "adapter_model.safetensors",
      "adapter/adapter_model.bin",
      "global_step100/mp_rank_00_model_states.pt",
      "dcp/__0_0.distcp"};
  for (const std::string& name : weights) dir_.write(name, "weights of the base");
  const CopiedFiles files = copied();
  EXPECT_EQ(files.left_out, paths(weights));
  EXPECT_EQ(files.copied, paths({"config.json"}));
}

TEST_F(FilesOfABase, LargeFilesThatBeginAsWeightsAreLeftOutUnderAnyName) {
  const std::string rest(size_t{1} << 20, 'x');
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )";
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  dir_.write("base-weights", "GGUF" + rest);
  dir_.write("model.bak", length + header + rest);
  dir_.write("old/model", "PK\x03\x04" + rest);
  dir_.write("notes", rest);
  const CopiedFiles files = copied();
  EXPECT_EQ(files.left_out, paths({"base-weights", "model.bak", "old/model"}));
  EXPECT_EQ(files.copied, paths({"config.json", "notes"}));
}

TEST_F(FilesOfABase, EverythingElseIsCopied) {
  const std::vector<std::string> others = {"README.md",
                                           "LICENSE",
                                           "generation_config.json",
                                           "tokenizer.json",
                                           "tokenizer.model",
                                           "tokenizer.bin",
                                           "tokenizer_config.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "qwen.tiktoken",
                                           "chat_template.jinja",
                                           "modeling_x.py",
                                           "params.json",
                                           "original/config.json",
                                           "figures/benchmark.png",
                                           "additional_chat_templates/a.jinja",
                                           "special_tokens_map.json"};
  for (const std::string& name : others) dir_.write(name, "of the base");
  const CopiedFiles files = copied();
  EXPECT_TRUE(files.left_out.empty());
  std::set<std::filesystem::path> all = paths(others);
  all.insert("config.json");
  EXPECT_EQ(files.copied, all);
}

TEST_F(FilesOfABase, NothingIsLeftOutWhenNothingWasTrained) {
  dir_.write("metal/model.bin", "weights of the base");
  EXPECT_EQ(copied(/*anything_trained=*/false).copied, paths({"config.json", "metal/model.bin"}));
}

TEST_F(FilesOfABase, TheIndexOfTheShardsThatAreReadIsKept) {
  std::filesystem::rename(dir_ / "model.safetensors", dir_ / "model-00001-of-00001.safetensors");
  dir_.write("model.safetensors.index.json",
             R"({"weight_map": {"a": "model-00001-of-00001.safetensors"}})");
  dir_.write("pytorch_model.bin.index.json", "{}");
  const CopiedFiles files = copied();
  EXPECT_EQ(files.left_out, paths({"pytorch_model.bin.index.json"}));
  EXPECT_EQ(files.copied, paths({"config.json", "model.safetensors.index.json"}));
}

}  // namespace
}  // namespace sutor
