// One declaration a family; registry.cc lists them.
#pragma once

#include <nlohmann/json.hpp>

#include "layers/models/models.h"

namespace sutor {

const Family& deepseek_v2_family();
const Family& qwen3_moe_family();

}  // namespace sutor
