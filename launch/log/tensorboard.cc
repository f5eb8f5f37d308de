// Encodes Event messages and frames them.
#include "launch/log/tensorboard.h"

#include <unistd.h>

#include <bit>
#include <chrono>
#include <span>

#include "csrc/base/hash.h"
#include "csrc/base/process/host.h"

namespace sutor {
namespace {

template <typename T>
void put_raw(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

// Wire types of protobuf: 0 varint, 1 fixed 64, 2 length and bytes, 5 fixed 32.
void put_key(std::string& out, int field, int wire_type) {
  put_varint(out, static_cast<uint64_t>(field << 3 | wire_type));
}

void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, 2);
  put_varint(out, bytes.size());
  out.append(bytes);
}

// Event { double wall_time = 1; int64 step = 2; ... }
std::string event_at(int64_t step) {
  using std::chrono::duration;
  using std::chrono::system_clock;
  std::string event;
  put_key(event, 1, 1);
  put_raw(event, duration<double>(system_clock::now().time_since_epoch()).count());
  put_key(event, 2, 0);
  put_varint(event, static_cast<uint64_t>(step));
  return event;
}

// TFRecord stores checksums rotated and offset, so that the checksum of data that contains
// checksums stays meaningful.
uint32_t masked_crc(std::string_view data) {
  return std::rotr(crc32c(std::as_bytes(std::span(data))), 15) + 0xa282ead8u;
}

std::string file_name() {
  const std::string host = host_name();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  // Readers take the files of a folder in the order of their names.
  return fmt::format("events.out.tfevents.{}.{}.{}",
                     std::chrono::duration_cast<std::chrono::microseconds>(now).count(),
                     host.empty() ? "localhost" : host, getpid());
}

bool holds_events(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    if (at->path().filename().string().starts_with("events.out.tfevents.")) return true;
  }
  return false;
}

}  // namespace

TensorboardWriter::TensorboardWriter(const std::filesystem::path& folder, int64_t resume_step)
    : earlier_(holds_events(folder)), file_(folder / file_name()) {
  std::string version = event_at(0);
  put_bytes(version, 3, "brain.Event:2");
  write_record(version);
  // A start that was killed before its first checkpoint has left events too.
  if (resume_step > 0 || earlier_) {
    std::string status;  // SessionLog { status = 1: START = 1 }: forget this step and later ones
    put_key(status, 1, 0);
    put_varint(status, 1);
    std::string start = event_at(resume_step > 0 ? resume_step + 1 : 0);
    put_bytes(start, 7, status);
    write_record(start);
  }
}

void TensorboardWriter::add(int64_t step,
                            const std::vector<std::pair<std::string, double>>& scalars) {
  std::string
      summary;  // Summary { repeated Value { string tag = 1; float simple_value = 2; } = 1 }
  for (const auto& [tag, number] : scalars) {
    std::string value;
    put_bytes(value, 1, tag);
    put_key(value, 2, 5);
    put_raw(value, static_cast<float>(number));
    put_bytes(summary, 1, value);
  }
  std::string event = event_at(step);
  put_bytes(event, 5, summary);
  write_record(event);
}

void TensorboardWriter::add_picture(int64_t step, const std::string& tag, std::string_view png,
                                    int width, int height) {
  // Image { int32 height = 1, width = 2, colorspace = 3 (3: RGB); bytes encoded_image_string = 4 }
  std::string image;
  for (const auto& [number, field] : {std::pair{height, 1}, {width, 2}, {3, 3}}) {
    put_key(image, field, 0);
    put_varint(image, static_cast<uint64_t>(number));
  }
  put_bytes(image, 4, png);
  std::string value, summary;  // Value { string tag = 1; Image image = 4; }
  put_bytes(value, 1, tag);
  put_bytes(value, 4, image);
  put_bytes(summary, 1, value);
  std::string event = event_at(step);
  put_bytes(event, 5, summary);
  write_record(event);
}

void TensorboardWriter::write_record(std::string_view data) {
  std::string header, footer;
  put_raw(header, static_cast<uint64_t>(data.size()));
  put_raw(header, masked_crc(header));
  put_raw(footer, masked_crc(data));
  file_.append(header + std::string(data) + footer);
}

}  // namespace sutor
