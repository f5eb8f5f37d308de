// One declaration a family; registry.cc lists them.
#pragma once

#include <nlohmann/json.hpp>

#include "layers/models/models.h"

namespace sutor {

const Family& deepseek_v2_family();
const Family& deepseek_v3_family();
const Family& glm4_moe_family();
const Family& kimi_k2_family();
const Family& mixtral_family();
const Family& olmoe_family();
const Family& qwen2_moe_family();
const Family& qwen3_moe_family();

}  // namespace sutor
