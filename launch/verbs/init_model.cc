// sutor init-model: writes a randomly initialised Hugging Face model directory.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/huggingface/hf_index.h"
#include "checkpoint/huggingface/model_directory.h"
#include "checkpoint/huggingface/random_model.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "csrc/base/text/nearest.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "layers/models/registry.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "init-model", "Writes a Hugging Face model directory with seeded random weights.",
    "sutor init-model --family FAMILY --out DIR [--size tiny|small] [--set key=value]...",
    "sutor init-model --family qwen3_moe --size tiny --out tiny/\n"
    "sutor init-model --family deepseek_v2 --size small --dtype bf16 --set n_routed_experts=32 "
    "--tokenizer tokenizer.json --out small/"};

std::string text_of(const po::variables_map& values, const char* option) {
  if (!values.count(option)) {
    fail(ErrorCode::kBadArgument, "init-model: --{} is required; see --help", option);
  }
  return values[option].as<std::string>();
}

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.emplace_back(family.name);
  return names;
}

const Family& family_option(const std::string& name) {
  for (const Family& family : families()) {
    if (family.name == name) return family;
  }
  const std::vector<std::string> known = known_families();
  fail(ErrorCode::kBadArgument, "--family {}: unknown (did you mean `{}`?). Known: {}", name,
       nearest(name, known), fmt::join(known, ", "));
}

// A preset is always valid, so what the family refuses was set on the command line.
ModelInfo info_of(const Family& family, const nlohmann::json& config) {
  try {
    return family.info(config);
  } catch (const Error& error) {
    fail(ErrorCode::kBadValue, "--set: {}", error.what());
  }
}

// The key that the config has for the dtype of its weights.
const char* dtype_key(const nlohmann::json& config) {
  return config.contains("dtype") ? "dtype" : "torch_dtype";
}

std::string_view config_name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    default:
      fail(ErrorCode::kBadDType, "a model cannot be {}: choose fp32, bf16 or fp16", name_of(dtype));
  }
}

// Applies one `key=value`; dots descend into objects (rope_scaling.factor).
void set_value(nlohmann::json& config, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail(ErrorCode::kBadArgument, "--set {}: expected key=value", setting);
  }
  const std::string key = setting.substr(0, equals);
  const std::string text = setting.substr(equals + 1);
  nlohmann::json* at = &config;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string part = key.substr(begin, end - begin);
    if (!at->is_object()) {
      fail(ErrorCode::kUnknownKey, "--set {}: `{}` is no object in config.json; set it as a whole",
           setting, key.substr(0, begin - 1));
    }
    if (!at->contains(part)) {
      std::vector<std::string> known;
      for (const auto& item : at->items()) known.push_back(item.key());
      fail(ErrorCode::kUnknownKey,
           "--set {}: unknown key `{}` (did you mean `{}`?). Keys of config.json: {}", setting,
           part, nearest(part, known), fmt::join(known, ", "));
    }
    at = &(*at)[part];
    begin = end + 1;
  }
  const nlohmann::json value = parse_json(text).value;
  *at = value.is_discarded() ? nlohmann::json(text) : value;
}

nlohmann::json config_from(const Family& family, const po::variables_map& values) {
  const std::string size = values["size"].as<std::string>();
  if (size != "tiny" && size != "small") {
    fail(ErrorCode::kBadArgument,
         "--size {}: expected tiny or small (any other by --set key=value)", size);
  }
  nlohmann::json config = family.preset(size);
  if (values.count("set")) {
    for (const std::string& setting : values["set"].as<std::vector<std::string>>()) {
      set_value(config, setting);
    }
  }
  if (config["model_type"] != family.name) {
    fail(ErrorCode::kBadArgument, "--set model_type: choose the family with --family");
  }
  if (values.count("dtype")) {
    config[dtype_key(config)] = config_name_of(parse_dtype(values["dtype"].as<std::string>()));
  }
  return config;
}

double initializer_range(const nlohmann::json& config) {
  const nlohmann::json value = config.value("initializer_range", nlohmann::json(0.02));
  if (!value.is_number() || !(value.get<double>() >= 0)) {
    fail(ErrorCode::kBadModelConfig,
         "config.json: `initializer_range` should be a number of at least 0, found {}",
         value.dump());
  }
  return value.get<double>();
}

std::string generation_config(const nlohmann::json& config) {
  nlohmann::json generation = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (config.contains(key) && !config[key].is_null()) generation[key] = config[key];
  }
  return dump_json(generation, 2) + "\n";
}

constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;

std::string read_tokenizer(const std::string& path) {
  std::string text = read_file(path, kMaxTokenizerBytes);
  if (!parse_json(text).problem.empty()) {
    fail(ErrorCode::kUnreadableFile,
         "--tokenizer {}: not JSON. Give the tokenizer.json of Hugging Face tokenizers.", path);
  }
  return text;
}

int init_model(const po::variables_map& values) {
  const std::string out = text_of(values, "out");
  const Family& family = family_option(text_of(values, "family"));
  const nlohmann::json config = config_from(family, values);
  const ModelInfo model = info_of(family, config);
  RandomModelOptions options;
  options.seed = values["seed"].as<uint64_t>();
  options.dtype = config_dtype(config);
  options.std = initializer_range(config);
  options.max_shard_bytes = parse_byte_size(values["shard-size"].as<std::string>(), "--shard-size");
  options.other_files["config.json"] = dump_json(config, 2) + "\n";
  options.other_files["generation_config.json"] = generation_config(config);
  if (values.count("tokenizer")) {
    options.other_files["tokenizer.json"] = read_tokenizer(text_of(values, "tokenizer"));
  }
  if (values.count("chat-template")) {
    options.other_files["chat_template.jinja"] = read_file(text_of(values, "chat-template"));
  }
  write_random_model(out, model.tensors, options);
  int64_t parameters = 0;
  for (const TensorEntry& tensor : model.tensors.entries()) {
    parameters += num_elements(tensor.shape);
  }
  const auto moe_layers = std::count(model.moe_layer.begin(), model.moe_layer.end(), true);
  fmt::print(
      "wrote {}: {}, {} layers ({} with {} experts, top-{}), {} parameters in {} tensors, {}, "
      "seed {}\n",
      out, family.name, model.num_layers, moe_layers, model.num_experts, model.top_k, parameters,
      model.tensors.size(), config_name_of(options.dtype), options.seed);
  return kExitOk;
}

}  // namespace

int verb_init_model(const Arguments& arguments) {
  po::options_description options;
  const std::string families = fmt::format("model family: {}", fmt::join(known_families(), ", "));
  options.add_options()("family", po::value<std::string>(), families.c_str())(
      "size", po::value<std::string>()->default_value("tiny"), "tiny (< 4 MB) or small")(
      "out", po::value<std::string>(), "the directory to make; it must not exist")(
      "seed", po::value<uint64_t>()->default_value(0), "of the weights")(
      "dtype", po::value<std::string>(), "fp32 (default), bf16 or fp16")(
      "set", po::value<std::vector<std::string>>()->composing(),
      "key=value: any field of config.json; the value is JSON, else a string")(
      "shard-size", po::value<std::string>()->default_value("5GB"), "largest file, e.g. 64MB")(
      "tokenizer", po::value<std::string>(), "copied in as tokenizer.json")(
      "chat-template", po::value<std::string>(), "copied in as chat_template.jinja");
  return run_alone([&] {
    const auto values = parse_command_line(kHelp, options, {}, arguments);
    return values ? init_model(*values) : static_cast<int>(kExitOk);
  });
}

}  // namespace sutor
