// A TensorBoard event file of scalars and pictures, written without protobuf: TFRecord frames
// (length and data, each with a masked crc32c) around hand-encoded Event messages. Formats:
// tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launch/log/append_file.h"

namespace sutor {

class TensorboardWriter {
 public:
  // Makes `folder` and a new events file in it. With `resume_step` > 0, TensorBoard forgets events
  // of later steps in older files of the folder; without, all events of older files. Throws E0501
  // or E0502 when the file cannot be written.
  TensorboardWriter(const std::filesystem::path& folder, int64_t resume_step);

  // Scalars are stored in fp32. In the file when the call returns. Throws likewise.
  void add(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  // png: the bytes of a PNG file of width x height pixels.
  void add_picture(int64_t step, const std::string& tag, std::string_view png, int width,
                   int height);
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void write_record(std::string_view data);

  bool earlier_;  // whether the folder held events before
  AppendFile file_;
};

}  // namespace sutor
