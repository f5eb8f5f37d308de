// What `quantization_config` of a config.json says about the stored form of matrices. How it says
// that activations or a cache are quantised does not matter to weights: sutor computes with
// activations as they are.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sutor {

// The elements that share a scale, as compressed-tensors names them.
enum class ScaleStrategy { kTensor, kChannel, kGroup, kBlock };

// A group of `config_groups`: how the weights of the modules that it targets are stored.
struct WeightScheme {
  std::string group;         // its name
  bool spelled_out = false;  // otherwise the name of a preset, and all that follows is unknown
  bool quantized = true;     // otherwise the group only has activations
  bool is_float = false;
  int bits = 8;
  ScaleStrategy strategy = ScaleStrategy::kTensor;
  int64_t group_size = 0;                     // columns, of kGroup
  int64_t block_rows = 0, block_columns = 0;  // of kBlock
  bool symmetric = true;                      // otherwise there are zero points
  bool column_order = false;  // whether each column says to which group it belongs (g_idx)
  bool packed = false, unpacked = false;  // what the format says; neither: it does not say
};

class QuantizationConfig {
 public:
  QuantizationConfig() = default;
  // Of a whole config.json. Never throws: require_readable() tells what cannot be read.
  explicit QuantizationConfig(const nlohmann::json& config);

  // Throws E0307 when the config names a method or a format that sutor does not read, or is
  // malformed.
  void require_readable(const std::string& where) const;

  // "compressed-tensors", "fp8" ...; empty when there is no config.
  const std::string& method() const { return method_; }
  // {rows, columns} of a block, from `weight_block_size`; {0, 0} when that is not said.
  std::pair<int64_t, int64_t> block() const { return block_; }
  // Whether scales are powers of two (`scale_fmt: ue8m0`).
  bool power_of_two_scales() const { return power_of_two_scales_; }
  // Whether modules are told apart by targets and `ignore`, as in compressed-tensors.
  bool has_groups() const { return !targets_.empty(); }
  // The scheme of a module (a stored name without ".weight"); nullptr when no group targets it or
  // it is ignored. As compressed-tensors: exact names before patterns before classes of modules.
  const WeightScheme* scheme_of(const std::string& module) const;

 private:
  struct Pattern {
    std::string text;
    bool is_regex = false;
    std::regex regex{};
    bool matches(const std::string& module) const;
  };
  struct Target {
    Pattern pattern;
    size_t scheme = 0;
  };

  void read(const nlohmann::json& config);
  void read_groups(const nlohmann::json& config);
  Pattern pattern(const std::string& text);

  std::string method_;
  std::string problem_;
  std::pair<int64_t, int64_t> block_ = {0, 0};
  bool power_of_two_scales_ = false;
  std::vector<WeightScheme> schemes_;
  std::vector<Target> targets_;  // in the order in which they apply
  std::vector<Pattern> ignored_;
};

}  // namespace sutor
