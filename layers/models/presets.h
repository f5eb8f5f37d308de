// The keys that the configurations of all families have in common, for `init-model`. A family adds
// its own.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace sutor {

// size: tiny (64 wide, for tests) or small (512 wide, for demonstrations). architecture: the class
// in transformers. own: keys to add, or to replace common ones with.
nlohmann::json preset_of(std::string_view size, std::string_view architecture,
                         std::string_view model_type, const nlohmann::json& own);

// What the configurations of DeepSeek-V2 and V3 have in common: latent attention, and experts
// behind one dense layer. `mscale`: both of YaRN's.
nlohmann::json deepseek_preset_of(std::string_view size, std::string_view architecture,
                                  std::string_view model_type, double mscale,
                                  const nlohmann::json& own);

}  // namespace sutor
