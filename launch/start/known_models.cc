#include "launch/start/known_models.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "csrc/base/error.h"
#include "csrc/base/text/nearest.h"
#include "layers/models/registry.h"

namespace sutor {
namespace {

// The figures are those of tests/golden/published_configs.json, which a test compares.
constexpr KnownModel kModels[] = {
    {"DeepSeek-V2-Lite", "deepseek_v2", 15.71, 2.66, 27, 64, 6},
    {"DeepSeek-V2", "deepseek_v2", 235.7, 21.4, 60, 160, 6},
    {"DeepSeek-V3", "deepseek_v3", 671.0, 37.6, 61, 256, 8},
    {"GLM-4.5-Air", "glm4_moe", 106.85, 13.42, 46, 128, 8},
    {"GLM-4.5", "glm4_moe", 352.8, 33.6, 92, 160, 8},
    {"gpt-oss-20b", "gpt_oss", 20.91, 4.19, 24, 32, 4},
    {"gpt-oss-120b", "gpt_oss", 116.83, 5.71, 36, 128, 4},
    {"Kimi-K2-Instruct", "kimi_k2", 1026.4, 32.9, 61, 384, 8},
    {"Mixtral-8x7B", "mixtral", 46.70, 12.88, 32, 8, 2},
    {"Mixtral-8x22B", "mixtral", 140.6, 39.2, 56, 8, 2},
    {"OLMoE-1B-7B-0924", "olmoe", 6.92, 1.28, 16, 64, 8},
    {"Qwen1.5-MoE-A2.7B", "qwen2_moe", 14.32, 2.69, 24, 60, 4},
    {"Qwen2-57B-A14B", "qwen2_moe", 57.41, 14.25, 28, 64, 8},
    {"Qwen3-30B-A3B", "qwen3_moe", 30.53, 3.35, 48, 128, 8},
    {"Qwen3-235B-A22B", "qwen3_moe", 235.09, 22.19, 94, 128, 8},
    {"Qwen3-Coder-480B-A35B", "qwen3_moe", 480.2, 35.5, 62, 160, 8},
};

struct FamilyShapes {
  std::string_view family, numbers, layouts;  // of tests/interop/models.py
};
// kimi_k2 computes what deepseek_v3 does: its sizes are compared under that name.
constexpr FamilyShapes kShapes[] = {
    {"deepseek_v2", "ds-qlora-groups", "ds-lite"},
    {"deepseek_v3", "d3-groups", "d3-groups"},
    {"glm4_moe", "g4-air", "g4-qk-norm-groups"},
    {"gpt_oss", "go-20b", "go-20b"},
    {"kimi_k2", "d3-kimi", "d3-groups"},
    {"mixtral", "mx-gqa", "mx-gqa"},
    {"olmoe", "ol-gqa-clip", "ol-gqa-clip"},
    {"qwen2_moe", "q2-gqa", "q2-gqa"},
    {"qwen3_moe", "qw-gqa", "qw-gqa"},
};

constexpr const char* kVerbs =
    "score, select, train (esft, full, lora), eval, generate, export (adapter, merged, peft of "
    "pairs), convert";
constexpr const char* kForms =
    "safetensors in bf16, fp16, fp32; FP8 with scales, INT8, packed integers of 2, 4 or 8 bits "
    "(compressed-tensors), MXFP4; base stores. Refused by name: GPTQ, AWQ, bitsandbytes, NVFP4";

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string family_called(const std::string& name) {
  std::vector<std::string> known;
  for (const Family& family : families()) {
    known.emplace_back(family.name);
    if (lower(family.name) == lower(name)) return known.back();
  }
  for (const KnownModel& model : kModels) {
    known.emplace_back(model.name);
    if (lower(model.name) == lower(name)) return std::string(model.family);
  }
  fail(
      ErrorCode::kBadArgument,
      "sutor models {}: no such family or model (did you mean `{}`?). `sutor models` lists all; of "
      "a model on your disk, `sutor inspect DIR` says what it is",
      name, nearest(name, known));
}

std::vector<KnownModel> models_of(std::string_view family) {
  std::vector<KnownModel> found;
  for (const KnownModel& model : kModels) {
    if (model.family == family) found.push_back(model);
  }
  return found;
}

std::string billions_text(double billions) { return fmt::format("{:.4g} B", billions); }

nlohmann::ordered_json family_json(std::string_view family) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array(), proofs = models;
  for (const KnownModel& model : models_of(family)) {
    models.push_back({{"name", model.name},
                      {"billions", model.billions},
                      {"active_billions", model.active_billions},
                      {"layers", model.layers},
                      {"experts", model.experts},
                      {"top_k", model.top_k}});
  }
  for (const Proof& proof : proofs_of(family)) {
    proofs.push_back({{"what", proof.what}, {"test", proof.file}, {"shape", proof.shape}});
  }
  return {{"family", family},
          {"models", models},
          {"does", kVerbs},
          {"reads", kForms},
          {"compared_with_transformers", proofs}};
}

}  // namespace

std::span<const KnownModel> known_models() { return kModels; }

std::vector<Proof> proofs_of(std::string_view family) {
  const auto* shapes = std::find_if(std::begin(kShapes), std::end(kShapes),
                                    [&](const auto& each) { return each.family == family; });
  if (shapes == std::end(kShapes)) return {};
  const std::string folder = "tests/interop/";
  const std::string numbers(shapes->numbers), layouts(shapes->layouts);
  std::vector<Proof> proofs = {
      {"logits within 1e-4, the same experts chosen, loss within 1e-6, gradients of every tensor "
       "within 1e-4 (fp32)",
       folder + "families/test_logits.py", numbers},
      {"greedy answers token for token", folder + "data/test_generate.py", numbers}};
  const bool older = family == "deepseek_v2" || family == "qwen3_moe";
  proofs.push_back({"trainings over ep, tp, pp, cp and etp: losses as transformers trains",
                    folder + (older ? "training/test_layouts.py" : "families/test_families.py"),
                    layouts});
  if (family == "deepseek_v3" || family == "kimi_k2") {
    proofs.push_back({"FP8 and packed INT4 releases: numbers, stores, exports",
                      folder + "families/test_quantized.py", "d3-groups"});
  } else if (family == "qwen3_moe") {
    proofs.push_back({"compressed-tensors in all its forms: numbers, stores, exports",
                      folder + "families/test_compressed_tensors.py", "qw-gqa"});
  } else if (family == "gpt_oss") {
    proofs.push_back(
        {"MXFP4: numbers, stores, exports", folder + "families/test_gpt_oss.py", "go-20b"});
  }
  return proofs;
}

std::string models_text() {
  std::string text = fmt::format("{:<12} {:<24} {:>9} {:>9} {:>7} {:>8} {:>6}\n", "family", "model",
                                 "size", "active", "layers", "experts", "top k");
  for (const Family& family : families()) {
    for (const KnownModel& model : models_of(family.name)) {
      text += fmt::format("{:<12} {:<24} {:>9} {:>9} {:>7} {:>8} {:>6}\n", model.family, model.name,
                          billions_text(model.billions), billions_text(model.active_billions),
                          model.layers, model.experts, model.top_k);
    }
  }
  return text +
         fmt::format(
             "\nOther sizes and fine-tunings of these families work alike.\nall do   {}\nread     "
             "{}\nproof    `sutor models FAMILY`: what is compared with transformers 5.23.0, by "
             "which test, on small models with random weights\n",
             kVerbs, kForms);
}

std::string models_text(const std::string& name) {
  const std::string family = family_called(name);
  std::string text = fmt::format("{} (model_type of config.json)\n", family);
  for (const KnownModel& model : models_of(family)) {
    text +=
        fmt::format("  {:<24} {} parameters, {} active; {} layers of {} experts, {} a token\n",
                    model.name, billions_text(model.billions), billions_text(model.active_billions),
                    model.layers, model.experts, model.top_k);
  }
  text += fmt::format(
      "does   {}\nreads  {}\ncompared with transformers 5.23.0, on small models with "
      "random weights:\n",
      kVerbs, kForms);
  for (const Proof& proof : proofs_of(family)) {
    text += fmt::format("  {}\n      {} ({})\n", proof.what, proof.file, proof.shape);
  }
  if (family == "kimi_k2") {
    text += "  it computes what deepseek_v3 does, and is compared under that name\n";
  }
  return text;
}

nlohmann::ordered_json models_json(const std::string& name) {
  if (!name.empty()) return family_json(family_called(name));
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Family& family : families()) all.push_back(family_json(family.name));
  return all;
}

}  // namespace sutor
