#include "checkpoint/export/copied_files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <string>
#include <string_view>

#include "checkpoint/files/recorded_files.h"
#include "checkpoint/huggingface/hf_index.h"
#include "csrc/base/file.h"

namespace sutor {
namespace fs = std::filesystem;
namespace {

constexpr size_t kHeadBytes = 16;
constexpr int64_t kLeastWeights = int64_t{1} << 20;  // of a file whose name says nothing

// Parts of names of files with weights: of PyTorch, safetensors, llama.cpp, TensorFlow, Flax, MLX,
// ONNX, TensorRT, Paddle, Megatron and DeepSpeed.
constexpr std::string_view kWeights[] = {
    "safetensors", "bin",      "pt",        "pth",  "ckpt",   "gguf",  "ggml",      "h5",
    "hdf5",        "msgpack",  "ot",        "npz",  "npy",    "onnx",  "onnx_data", "tflite",
    "mlmodel",     "pdparams", "distcp",    "nemo", "engine", "plan",  "pkl",       "pickle",
    "pdmodel",     "keras",    "llamafile", "zarr", "orbax",  "params"};
// Binary files that belong to a tokenizer.
constexpr std::string_view kTokenizer[] = {"tokenizer", "vocab", "merges", "spiece",
                                           "sentencepiece"};

std::string in_lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// Whether a part of the name behind a dot is that of a format of weights: `model.gguf.part1of2`,
// `model.safetensors.index.fp8.json`, `pytorch_model.bin.index.json`.
bool is_named_as_weights(const std::string& name) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const std::string part = name.substr(dot + 1, name.find('.', dot + 1) - dot - 1);
    if (std::find(std::begin(kWeights), std::end(kWeights), part) != std::end(kWeights)) {
      return true;
    }
  }
  return name.starts_with("pytorch_model") || name.find(".gguf-split") != std::string::npos;
}

// Whether the file begins as weights do: a zip archive or a pickle (PyTorch), GGUF, HDF5, or the
// header of safetensors. For large files, whatever their names.
bool begins_as_weights(const fs::path& path) {
  const InputFile file(path);
  if (file.size() < kLeastWeights) return false;
  std::array<std::byte, kHeadBytes> bytes;
  file.read_at(0, bytes);
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const bool safetensors =
      header_bytes < static_cast<uint64_t>(file.size()) && head.substr(8).starts_with("{\"");
  return safetensors || head.starts_with("GGUF") || head.starts_with("\x89HDF\r\n") ||
         head.starts_with("PK\x03\x04") || head.starts_with("\x80\x02") ||
         head.starts_with("\x80\x04");
}

// Whether a file has weights that the model is not read from, or says where such are.
bool is_other_weights(const fs::path& file, const ModelDirectory& base) {
  const std::string name = in_lower_case(file.filename().string());
  const bool is_single =
      base.shards().size() == 1 && base.shards()[0]->name() == kSingleWeightsFile;
  if (file == kIndexFile) return is_single;
  // transformers would put the adapter that it describes on top of the model.
  if (name == "adapter_config.json") return true;
  for (const std::string_view of_tokenizer : kTokenizer) {
    if (name.starts_with(of_tokenizer)) return false;
  }
  return is_named_as_weights(name) || begins_as_weights(base.files_root() / file);
}

}  // namespace

CopiedFiles copied_files(const ModelDirectory& base, bool anything_trained, bool new_headers) {
  CopiedFiles files{.copied = base.other_files(), .left_out = {}};
  if (anything_trained) {
    for (const fs::path& file : files.copied) {
      if (is_other_weights(file, base)) files.left_out.insert(file);
    }
    for (const fs::path& file : files.left_out) files.copied.erase(file);
    files.copied.erase(kMergedInfoFile);
    files.copied.erase(kModelFilesFile);
  }
  if (new_headers) {
    files.copied.erase("config.json");
    files.copied.erase(kIndexFile);
  }
  return files;
}

}  // namespace sutor
