// The one list of families, by name; a new family joins it, and its file defines NAME_family().
#pragma once

#include <nlohmann/json.hpp>

#include "layers/models/registry.h"

// clang-format off
#define SUTOR_FAMILIES(FAMILY) \
  FAMILY(deepseek_v2)          \
  FAMILY(deepseek_v3)          \
  FAMILY(glm4_moe)             \
  FAMILY(gpt_oss)              \
  FAMILY(kimi_k2)              \
  FAMILY(mixtral)              \
  FAMILY(olmoe)                \
  FAMILY(qwen2_moe)            \
  FAMILY(qwen3_moe)
// clang-format on

namespace sutor {

#define SUTOR_DECLARE_FAMILY(name) const Family& name##_family();
SUTOR_FAMILIES(SUTOR_DECLARE_FAMILY)
#undef SUTOR_DECLARE_FAMILY

}  // namespace sutor
