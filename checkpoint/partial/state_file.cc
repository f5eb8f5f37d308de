#include "checkpoint/partial/state_file.h"

#include "csrc/base/error.h"
#include "csrc/base/format_versions.h"
#include "csrc/base/hdf5/h5.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

constexpr std::string_view kFormat = "sutor.training_state";
constexpr ErrorCode kCorruptFile = ErrorCode::kCorrupted;

constexpr const char* kStep = "checkpoint_step";

bool is_reserved(const std::string& key) {
  return key == "format" || key == "format_version" || key == kStep;
}

}  // namespace

WrittenState write_state_file(const std::filesystem::path& path, const CheckpointMeta& meta) {
  SUTOR_ASSERT(meta.state.is_object());
  h5::File file = h5::File::create(path);
  file.set_text("/", "format", kFormat);
  file.set_int("/", "format_version", kStateFileVersion);
  file.set_int("/", kStep, meta.step);
  for (const auto& [key, value] : meta.state.items()) {
    SUTOR_ASSERT(!key.empty() && !is_reserved(key));
    file.set_text("/", key, value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  const h5::File::Finished finished = file.finish();  // it has no arrays: all of it is metadata
  return {finished.bytes, finished.metadata};
}

nlohmann::json read_state_file(const std::filesystem::path& path, int64_t step) {
  const h5::File file = h5::File::open(path, kCorruptFile);
  if (file.get_text("/", "format") != kFormat ||
      file.get_int("/", "format_version") != kStateFileVersion) {
    file.fail_read(fmt::format("it is not a {} of version {}", kFormat, kStateFileVersion));
  }
  if (file.get_int("/", kStep) != step) {
    file.fail_read(fmt::format("it is of step {}, not of step {}", file.get_int("/", kStep), step));
  }
  nlohmann::json state = nlohmann::json::object();
  for (const h5::Attribute& attribute : file.attributes("/")) {
    if (is_reserved(attribute.name)) continue;
    nlohmann::json value = parse_json(attribute.text).value;
    if (value.is_discarded()) {
      file.fail_read(fmt::format("attribute `{}` is not JSON", attribute.name));
    }
    state[attribute.name] = std::move(value);
  }
  return state;
}

}  // namespace sutor
