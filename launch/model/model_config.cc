#include "launch/model/model_config.h"

#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "layers/models/registry.h"

namespace sutor {

ModelInfo read_model_info(const std::filesystem::path& directory) {
  const ParsedJson config = parse_json(read_model_config(directory));
  if (!config.value.is_object()) {
    fail(ErrorCode::kNoModel, "{}: config.json is no JSON object{}{}.", directory.string(),
         config.problem.empty() ? "" : ": ", config.problem);
  }
  return family_of(config.value).info(config.value);
}

bool is_unsupported_model(ErrorCode code) {
  return code == ErrorCode::kUnsupportedModel || code == ErrorCode::kUnknownFamily;
}

}  // namespace sutor
