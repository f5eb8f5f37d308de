#include "checkpoint/format/foreign_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMaxConfig = int64_t{1} << 20;

constexpr const char* kGguf =
    "which llama.cpp makes for inference; sutor reads the original weights as safetensors. Fetch "
    "the model that it was made of";
constexpr const char* kPickled =
    "which are not read: loading them can run code. Save the model as safetensors first "
    "(`save_pretrained` of transformers does)";

// "Qwen/Qwen3-30B-A3B"
bool is_hub_name(const std::string& name) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  const size_t slash = name.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == name.size()) return false;
  const std::string owner = name.substr(0, slash), model = name.substr(slash + 1);
  return owner[0] != '.' && std::all_of(owner.begin(), owner.end(), plain) &&
         std::all_of(model.begin(), model.end(), plain);
}

std::string file_text(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".gguf") return fmt::format("it is a GGUF file, {}", kGguf);
  if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt") {
    return fmt::format("it is a file of pickled weights, {}", kPickled);
  }
  if (extension == ".onnx") {
    return "it is an ONNX file, which holds a graph for inference. Fetch the model that it was "
           "made "
           "of, as safetensors";
  }
  return fmt::format("it is a file. Name its folder, {}", parent_of(path).string());
}

// The model that a LoRA adapter was trained from, if it says so.
std::string base_of(const fs::path& config) {
  if (!is_file(config) || bytes_of(config) > kMaxConfig) return "";
  const ParsedJson parsed = parse_json(read_file(config, kMaxConfig));
  if (!parsed.value.is_object()) return "";
  const auto base = parsed.value.find("base_model_name_or_path");
  return base != parsed.value.end() && base->is_string() ? base->get<std::string>() : "";
}

std::string folder_text(const fs::path& path) {
  if (is_there(path / "adapter_config.json")) {
    const std::string base = base_of(path / "adapter_config.json");
    return fmt::format(
        "it is a LoRA adapter, not a model. Give model.path the model that it was trained from{}; "
        "`lora.init` goes on from the adapter",
        base.empty() ? "" : " (it names " + base + ")");
  }
  if (is_there(path / "expert_cfg.json")) {
    return "it is an adapter of trained experts, not a model. Give model.path its base and name "
           "the "
           "adapter in model.adapters";
  }
  if (is_folder(path / "checkpoints") || path.filename().string().starts_with("step-")) {
    return "it is what a training wrote. `sutor export` makes a model of it: its export/merged";
  }
  if (is_folder(path / "snapshots")) {
    return "it is a folder of a cache of models. Name the folder with the model's files, below "
           "snapshots/";
  }
  if (is_there(path / "latest_checkpointed_iteration.txt")) {
    return "it is a checkpoint of Megatron-LM. Convert it to a Hugging Face directory first";
  }
  size_t files = 0;
  for (const fs::path& entry : entries_of(path)) {
    const std::string extension = entry.extension().string();
    ++files;
    if (extension == ".gguf") return fmt::format("it holds GGUF files, {}", kGguf);
    if (extension == ".bin" || extension == ".pth" || extension == ".pt") {
      return fmt::format("it holds pickled weights ({}), {}", entry.filename().string(), kPickled);
    }
    if (extension == ".onnx") {
      return "it holds ONNX files, graphs for inference. Fetch the model that they were made of, "
             "as "
             "safetensors";
    }
    if (entry.filename() == "tf_model.h5" || entry.filename() == "flax_model.msgpack") {
      return fmt::format("its weights are {}, which is not read. Fetch them as safetensors",
                         entry.filename().string());
    }
  }
  if (files == 0) return "it is empty. Was the model fetched?";
  return "";
}

}  // namespace

std::string foreign_model_text(const fs::path& path) {
  if (is_folder(path)) return folder_text(path);
  if (is_there(path)) return file_text(path);
  if (!is_hub_name(path.string())) return "";
  return fmt::format(
      "if {} is a name of a model hub: sutor fetches nothing. Fetch the model yourself and give "
      "the "
      "path of its folder",
      path.string());
}

}  // namespace sutor
