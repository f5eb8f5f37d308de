// A TensorBoard event file of scalars, written without protobuf: TFRecord frames (length and data,
// each with a masked crc32c) around hand-encoded Event messages.
// Formats: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sutor {

class TensorboardWriter {
 public:
  // Makes `folder` and a new events file in it. With `resume_step` > 0, TensorBoard forgets events
  // of later steps in older files of the folder. Throws E0502 when the file cannot be written.
  TensorboardWriter(const std::filesystem::path& folder, int64_t resume_step);

  // Scalars are stored in fp32. Flushed when the call returns.
  void add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(std::string_view data);

  std::filesystem::path path_;
  std::ofstream stream_;
};

}  // namespace sutor
