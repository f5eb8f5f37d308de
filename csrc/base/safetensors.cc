#include "csrc/base/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

struct FormatDType {
  std::string_view name;
  int bits;
};
// All dtypes of the format, in the order in which the Python library stores them.
constexpr std::array<FormatDType, 22> kFormatDTypes = {
    {{"U64", 64},    {"I64", 64},        {"F64", 64},        {"C64", 64},    {"F32", 32},
     {"U32", 32},    {"I32", 32},        {"BF16", 16},       {"F16", 16},    {"U16", 16},
     {"I16", 16},    {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E8M0", 8}, {"F8_E4M3", 8},
     {"F8_E5M2", 8}, {"I8", 8},          {"U8", 8},          {"F6_E3M2", 6}, {"F6_E2M3", 6},
     {"F4", 4},      {"BOOL", 8}}};

// Position in kFormatDTypes; kFormatDTypes.size() for a dtype that the format does not have.
size_t format_dtype(std::string_view name) {
  const auto at = std::find_if(kFormatDTypes.begin(), kFormatDTypes.end(),
                               [&](const FormatDType& row) { return row.name == name; });
  return static_cast<size_t>(at - kFormatDTypes.begin());
}

std::optional<DType> computable_dtype(std::string_view name) {
  constexpr std::array kKnown = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI64,
                                 DType::kI32, DType::kI16, DType::kI8,  DType::kU8,   DType::kBool};
  for (const DType dtype : kKnown) {
    if (name_of(dtype) == name) return dtype;
  }
  return std::nullopt;
}

// Bytes of a tensor; nothing when the product overflows or sub-byte elements end inside a byte.
std::optional<int64_t> checked_bytes(const std::vector<int64_t>& shape, int bits) {
  int64_t total_bits = bits;
  for (const int64_t extent : shape) {
    if (__builtin_mul_overflow(total_bits, extent, &total_bits)) return std::nullopt;
  }
  if (total_bits % 8 != 0) return std::nullopt;
  return total_bits / 8;
}

// Checks the header's JSON while it is parsed: the grammar has only three levels, so a state for
// each level suffices, and nothing that the format does not know is ever stored.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(size_t) override {
    if (level_ == Level::kStart) {
      level_ = Level::kFile;
    } else if (level_ == Level::kFile && !name_.empty_key && name_.text == "__metadata__") {
      level_ = Level::kMetadata;
    } else if (level_ == Level::kFile) {
      level_ = Level::kTensor;
      entry_ = {};
      entry_.name = name_.text;
      fields_.clear();
    } else {
      refuse("an object where none belongs");
    }
    return true;
  }

  bool key(std::string& text) override {
    if (level_ == Level::kFile) {
      name_ = {text, false};
      if (!names_.insert(text).second) refuse("the name occurs twice");
    } else if (level_ == Level::kMetadata) {
      metadata_key_ = text;
      if (header_.metadata.count(text)) refuse(fmt::format("key `{}` occurs twice", text));
    } else {
      if (text != "dtype" && text != "shape" && text != "data_offsets") {
        refuse(fmt::format("unknown key `{}`; expected dtype, shape and data_offsets", text));
      }
      if (!fields_.insert(text).second) refuse(fmt::format("key `{}` occurs twice", text));
      field_ = text;
    }
    return true;
  }

  bool string(std::string& text) override {
    if (level_ == Level::kMetadata) {
      header_.metadata[metadata_key_] = text;
    } else if (level_ == Level::kTensor && field_ == "dtype") {
      entry_.dtype_name = text;
      entry_.dtype = computable_dtype(text);
    } else {
      refuse(fmt::format("a string where none belongs: `{}`", text));
    }
    return true;
  }

  bool start_array(size_t) override {
    if (level_ != Level::kTensor || field_ == "dtype") refuse("an array where none belongs");
    level_ = Level::kArray;
    array_.clear();
    return true;
  }

  bool number_unsigned(uint64_t value) override {
    if (level_ != Level::kArray) refuse("a number where none belongs");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(fmt::format("{} is too large", value));
    }
    array_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool end_array() override {
    level_ = Level::kTensor;
    if (field_ == "shape") {
      entry_.shape = array_;
      return true;
    }
    if (array_.size() != 2) refuse("data_offsets must be two numbers");
    entry_.begin = array_[0];
    entry_.end = array_[1];
    return true;
  }

  bool end_object() override {
    if (level_ == Level::kTensor) {
      if (fields_.size() != 3) refuse("dtype, shape and data_offsets are all needed");
      header_.tensors.push_back(std::move(entry_));
    }
    level_ = level_ == Level::kFile ? Level::kStart : Level::kFile;
    return true;
  }

  bool null() override { refuse("null where none belongs"); }
  bool boolean(bool) override { refuse("a truth value where none belongs"); }
  bool number_integer(int64_t value) override { refuse(fmt::format("negative number {}", value)); }
  bool number_float(double, const std::string& text) override {
    refuse(fmt::format("{} is not an unsigned integer", text));
  }
  bool binary(nlohmann::json::binary_t&) override { refuse("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(ErrorCode::kBrokenFile, "{}: the safetensors header is not valid UTF-8 JSON (byte {})",
         file_, 8 + position);
  }

 private:
  enum class Level { kStart, kFile, kMetadata, kTensor, kArray };
  struct Key {
    std::string text;
    bool empty_key = true;
  };

  [[noreturn]] void refuse(const std::string& reason) const {
    if (name_.empty_key) fail(ErrorCode::kBrokenFile, "{}: safetensors header: {}", file_, reason);
    fail(ErrorCode::kBrokenFile, "{}: safetensors header, tensor `{}`: {}", file_, name_.text,
         reason);
  }

  std::string_view file_;
  SafetensorsHeader header_;
  Level level_ = Level::kStart;
  Key name_;  // of the tensor being read; none before the first
  std::set<std::string> names_;
  std::set<std::string> fields_;
  std::string field_;
  std::string metadata_key_;
  std::vector<int64_t> array_;
  SafetensorsEntry entry_;
};

// Shape, dtype and byte range of one tensor agree.
void check_size(const SafetensorsEntry& entry, std::string_view file) {
  const auto refuse = [&](const std::string& reason) {
    fail(ErrorCode::kBrokenFile, "{}: tensor `{}`: {}", file, entry.name, reason);
  };
  const size_t dtype = format_dtype(entry.dtype_name);
  if (dtype == kFormatDTypes.size()) refuse(fmt::format("unknown dtype `{}`", entry.dtype_name));
  if (entry.end < entry.begin) {
    refuse(fmt::format("data_offsets [{}, {}] are reversed", entry.begin, entry.end));
  }
  const auto bytes = checked_bytes(entry.shape, kFormatDTypes[dtype].bits);
  if (!bytes) {
    refuse(fmt::format("the size of shape {} of {} is not a valid number of bytes",
                       shape_text(entry.shape), entry.dtype_name));
  }
  if (*bytes != entry.num_bytes()) {
    refuse(fmt::format("shape {} of {} needs {} bytes, but data_offsets [{}, {}] hold {}",
                       shape_text(entry.shape), entry.dtype_name, *bytes, entry.begin, entry.end,
                       entry.num_bytes()));
  }
}

// The tensors tile the data without hole or overlap, up to the end of the file.
void check_tiling(const SafetensorsHeader& header, int64_t data_bytes, std::string_view file) {
  int64_t at = 0;
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.begin != at) {
      fail(ErrorCode::kBrokenFile, "{}: tensor `{}`: its data begin at offset {}, expected {} ({})",
           file, entry.name, entry.begin, at, entry.begin > at ? "a hole" : "an overlap");
    }
    at = entry.end;
    if (at > data_bytes) {
      fail(ErrorCode::kBrokenFile,
           "{} is truncated: tensor `{}` ends at byte {}, the file at byte {}. Fetch the file "
           "again.",
           file, entry.name, header.data_begin + at, header.data_begin + data_bytes);
    }
  }
  if (at != data_bytes) {
    fail(ErrorCode::kBrokenFile, "{}: {} bytes follow the last tensor", file, data_bytes - at);
  }
}

}  // namespace

int64_t SafetensorsEntry::num_elements() const {
  return sutor::num_elements(shape);  // was checked for overflow when the header was read
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> head, int64_t file_size,
                                           std::string_view file_name) {
  if (file_size < 8 || head.size() < 8) {
    fail(ErrorCode::kBrokenFile, "{} is not a safetensors file: it has {} bytes only", file_name,
         file_size);
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | std::to_integer<uint64_t>(head[i]);
  constexpr uint64_t kVersion = 0x206e6f6973726576;  // "version ", as a pointer of git-lfs begins
  if (length == kVersion) {
    fail(ErrorCode::kBrokenFile,
         "{} is not the file itself but a pointer of git-lfs to it ({} bytes). Fetch the files: "
         "`git lfs pull` in its folder",
         file_name, file_size);
  }
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    fail(ErrorCode::kBrokenFile,
         "{} is not a safetensors file: its header would have {} bytes (at most {})", file_name,
         length, kMaxSafetensorsHeader);
  }
  if (static_cast<int64_t>(length) > file_size - 8 || length > head.size() - 8) {
    fail(ErrorCode::kBrokenFile,
         "{} is truncated: its header needs {} bytes, the file has {}. Fetch the file again.",
         file_name, length + 8, file_size);
  }
  const auto* text = reinterpret_cast<const char*>(head.data() + 8);
  if (length == 0 || text[0] != '{') {
    fail(ErrorCode::kBrokenFile,
         "{} is not a safetensors file: its header does not start with `{{`", file_name);
  }
  HeaderReader reader(file_name);
  nlohmann::json::sax_parse(text, text + length, &reader);
  SafetensorsHeader header = reader.take();
  header.data_begin = 8 + static_cast<int64_t>(length);
  for (const SafetensorsEntry& entry : header.tensors) check_size(entry, file_name);
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  check_tiling(header, file_size - header.data_begin, file_name);
  for (SafetensorsEntry& entry : header.tensors) {
    entry.begin += header.data_begin;
    entry.end += header.data_begin;
  }
  return header;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  std::vector<std::byte> head(8);
  if (file_.size() >= 8) {
    file_.read_at(0, head);
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | std::to_integer<uint64_t>(head[i]);
    // Read no more than there may be; the parser says what is wrong with other lengths.
    const auto most = static_cast<uint64_t>(std::min(kMaxSafetensorsHeader, file_.size() - 8));
    if (length <= most) {
      head.resize(8 + length);
      file_.read_at(0, head);
    }
  }
  header_ = parse_safetensors_header(head, file_.size(), path.string());
  for (size_t i = 0; i < header_.tensors.size(); ++i) by_name_[header_.tensors[i].name] = i;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &header_.tensors[at->second];
}

void SafetensorsFile::read(const SafetensorsEntry& entry, int64_t offset,
                           std::span<std::byte> into) const {
  SUTOR_ASSERT(offset >= 0 && offset + static_cast<int64_t>(into.size()) <= entry.num_bytes());
  file_.read_at(entry.begin + offset, into);
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  std::call_once(mapping_->once, [this] { mapping_->file.emplace(file_.path()); });
  const std::span<const std::byte> all = mapping_->file->bytes();
  if (static_cast<int64_t>(all.size()) != file_.size()) {
    fail(ErrorCode::kBrokenFile, "{} changed its size while it was open", file_.path().string());
  }
  return all.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.num_bytes()));
}

int64_t SafetensorsDeclaration::num_bytes() const {
  const size_t dtype = format_dtype(dtype_name);
  std::optional<int64_t> bytes;
  if (dtype < kFormatDTypes.size()) bytes = checked_bytes(shape, kFormatDTypes[dtype].bits);
  if (!bytes) {
    fail(ErrorCode::kBrokenFile, "tensor `{}`: {} of shape {} cannot be stored", name, dtype_name,
         shape_text(shape));
  }
  return *bytes;
}

void sort_as_safetensors(std::vector<SafetensorsDeclaration>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const SafetensorsDeclaration& a, const SafetensorsDeclaration& b) {
              return std::pair(format_dtype(a.dtype_name), std::string_view(a.name)) <
                     std::pair(format_dtype(b.dtype_name), std::string_view(b.name));
            });
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<SafetensorsDeclaration>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  // Written by hand: an ordered JSON object looks through all its keys at every insertion.
  std::string text = "{";
  if (!metadata.empty())
    text += fmt::format("\"__metadata__\":{}", nlohmann::json(metadata).dump());
  int64_t at = 0;
  for (const SafetensorsDeclaration& tensor : tensors) {
    const int64_t end = at + tensor.num_bytes();
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        text.size() > 1 ? "," : "", nlohmann::json(tensor.name).dump(),
                        tensor.dtype_name, fmt::join(tensor.shape, ","), at, end);
    at = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned
  std::string prefix(8, '\0');
  for (size_t i = 0; i < 8; ++i) prefix[i] = static_cast<char>(text.size() >> (8 * i));
  total_ = 8 + static_cast<int64_t>(text.size()) + at;
  file_.reserve(total_);
  append(std::as_bytes(std::span(prefix)));
  append(std::as_bytes(std::span(text)));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  hasher_.update(bytes);
  file_.append(bytes);
}

Digest SafetensorsWriter::finish() {
  SUTOR_ASSERT(file_.written() == total_);
  file_.finish();
  return hasher_.digest();
}

}  // namespace sutor
