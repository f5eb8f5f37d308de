// The safetensors file format: a strict reader, which checks every rule of the format before it
// trusts a byte, and a streaming writer whose bytes equal those of the Python library. A file that
// breaks a rule gives E0303 naming the file and the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/base/dtype.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"

namespace sutor {

// A tensor of a file, as the header describes it.
struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;      // as written: "BF16", "F8_E4M3" ...
  std::optional<DType> dtype;  // absent for dtypes that sutor does not compute with
  std::vector<int64_t> shape;  // empty = a scalar
  int64_t begin = 0;           // bytes [begin, end) of the file
  int64_t end = 0;

  int64_t num_bytes() const { return end - begin; }
  int64_t num_elements() const;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;        // in the order of their bytes
  std::map<std::string, std::string> metadata;  // `__metadata__`
  int64_t data_begin = 0;                       // 8 + size of the header
};

constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, as in the reference

// `head`: the file's bytes at least up to the end of the header. `file_size`: of the whole file.
// Refuses a header that is empty, too large or longer than the file, that does not start with `{`,
// is not UTF-8 JSON, or has a name twice, unknown keys, numbers that are not unsigned integers, an
// unknown dtype, or a shape whose size overflows or differs from its bytes; and bytes that overlap,
// leave a hole, or do not end with the file. Scalars and empty tensors (which may share an offset)
// are legal.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> head, int64_t file_size,
                                           std::string_view file_name);

// An open file. Only the header is read until bytes are asked for. Thread-safe.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const InputFile& file() const { return file_; }
  const SafetensorsHeader& header() const { return header_; }
  const std::vector<SafetensorsEntry>& tensors() const { return header_.tensors; }
  const SafetensorsEntry* find(std::string_view name) const;  // nullptr when absent
  // Copies bytes of a tensor, from its `offset`-th on.
  void read(const SafetensorsEntry& entry, int64_t offset, std::span<std::byte> into) const;
  // The tensor's bytes in a mapping of the whole file, made at the first call; the mapping lives as
  // long as the object. For files that nobody truncates meanwhile.
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;

 private:
  struct Mapping {
    std::once_flag once;
    std::optional<MappedFile> file;
  };
  InputFile file_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> by_name_;
  std::unique_ptr<Mapping> mapping_ = std::make_unique<Mapping>();
};

// What a writer must know of a tensor before it writes the data.
struct SafetensorsDeclaration {
  std::string name;
  std::string dtype_name;
  std::vector<int64_t> shape;

  int64_t num_bytes() const;  // E0303 for an unknown dtype or a size that overflows
};

// The order in which the Python library stores tensors: wide dtypes first, then by name.
void sort_as_safetensors(std::vector<SafetensorsDeclaration>& tensors);

// Writes a new file: declare all tensors, append their data in that order, finish. The order stays
// as declared; sort it first to get the bytes that the Python library would write.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path,
                    const std::vector<SafetensorsDeclaration>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  // Appends the next bytes; chunks need not end where tensors do.
  void append(std::span<const std::byte> bytes);
  // Fsyncs and closes; the digest of the whole file, header included, as it was meant. Internal
  // error unless exactly the declared bytes were appended.
  Digest finish();
  int64_t file_bytes() const { return total_; }

 private:
  OutputFile file_;
  Hasher hasher_;
  int64_t total_ = 0;
};

}  // namespace sutor
