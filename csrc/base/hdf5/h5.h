// HDF5 files: handles that close themselves, library errors as sutor::Error, and a reader for files
// of unknown origin, which follows only hard links and accepts only plain contiguous arrays.
//
// Every call silences the library's own error printing and forbids plugins. Files contain no time
// stamps, so equal content gives equal bytes. One thread at a time may use a File.
//
// A new file is written by us: arrays at the offsets that the library gave them, its own bytes from
// memory (memory_driver.h) at the end. So no failed write is lost, and none disturbs the library.
#pragma once

#include <hdf5.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "csrc/base/dtype.h"
#include "csrc/base/error_codes.h"
#include "csrc/base/hash.h"

namespace sutor::h5 {

// Any HDF5 identifier; the destructor releases its reference.
class Handle {
 public:
  explicit Handle(hid_t id = H5I_INVALID_HID) : id_(id) {}
  ~Handle();
  Handle(Handle&& other) noexcept;
  Handle& operator=(Handle&& other) noexcept;
  hid_t get() const { return id_; }
  hid_t release();

 private:
  hid_t id_;
};

// Whether several threads may use different Files at a time.
bool is_thread_safe();

// The library's innermost message about its last failure in this thread.
std::string last_error();

// A dataset that was checked: contiguous, little endian, unfiltered, inside the file.
struct Dataset {
  std::string path;  // "/layer.3/token"
  // In the spelling of safetensors: F32, F64, I8 ... I64, U8 ... U64; BF16, F16, BOOL, F8_* and the
  // like are integers with an attribute `dtype` that says so.
  std::string type;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first byte in the file; 0 when there are no elements
  int64_t bytes = 0;
  Digest digest{};  // of the elements, when write() wrote them
};

struct Attribute {
  std::string name;
  std::string text;     // of a string
  int64_t integer = 0;  // of an integer; uint64 wraps
  double real = 0;      // of a float
  enum Kind { kText, kInteger, kReal } kind = kText;
};

template <typename T>
constexpr std::string_view type_name() {
  if constexpr (std::is_same_v<T, float>)
    return "F32";
  else if constexpr (std::is_same_v<T, double>)
    return "F64";
  else if constexpr (std::is_same_v<T, int64_t>)
    return "I64";
  else if constexpr (std::is_same_v<T, uint64_t>)
    return "U64";
  else if constexpr (std::is_same_v<T, int32_t>)
    return "I32";
  else if constexpr (std::is_same_v<T, uint32_t>)
    return "U32";
  else {
    static_assert(std::is_same_v<T, uint8_t>);
    return "U8";
  }
}

// An open file. Paths inside are absolute ("/", "/layer.3/token"); groups are made as needed. A
// failing read throws E0309, or the code given to open(); a failing write throws E0502.
class File {
 public:
  // A new file; throws E0502 when `path` exists. Arrays of 1 MiB and more are aligned to
  // `alignment` bytes.
  static File create(const std::filesystem::path& path, int64_t alignment = 1);
  // Read-only. `code`: that of the Error when the file turns out, now or later, to be invalid;
  // `corrupt`: when its bytes are not those that were sealed (seal.h), or texts are damaged.
  static File open(const std::filesystem::path& path, ErrorCode code, ErrorCode corrupt);
  static File open(const std::filesystem::path& path, ErrorCode code = ErrorCode::kBadHdf5) {
    return open(path, code, code);
  }

  const std::filesystem::path& path() const { return path_; }
  int64_t size() const { return size_; }  // of a file that was opened for reading

  // Makes an array and allocates its storage. `type` as in Dataset. A scalar has an empty shape.
  Dataset create_dataset(const std::string& path, std::string_view type,
                         const std::vector<int64_t>& shape);
  // Makes an array and writes its elements, last axis fastest; throws E0501 or E0502.
  Dataset write(const std::string& path, std::string_view type, const std::vector<int64_t>& shape,
                std::span<const std::byte> bytes);
  // As above, for a caller that knows the elements' xxh3.
  Dataset write(const std::string& path, std::string_view type, const std::vector<int64_t>& shape,
                std::span<const std::byte> bytes, const Digest& digest);
  template <typename T>
  Dataset write(const std::string& path, const std::vector<int64_t>& shape,
                const std::vector<T>& values) {
    return write(path, type_name<T>(), shape, std::as_bytes(std::span(values)));
  }
  // `object` is a group (made when missing) or a dataset.
  void set_text(const std::string& object, const std::string& name, std::string_view text);
  void set_int(const std::string& object, const std::string& name, int64_t value);
  void set_uint(const std::string& object, const std::string& name, uint64_t value);

  // For arrays of create_dataset(): asks for space, writes bytes at an offset of the file, lets the
  // disk begin with them. The last two may be called by any thread.
  void reserve(int64_t bytes);
  void write_at(int64_t offset, std::span<const std::byte> bytes) const;
  void start_writing(int64_t offset, int64_t bytes) const;
  struct Finished {
    int64_t bytes = 0;  // size of the file
    Digest metadata;    // of all bytes outside arrays, in order, as they were meant
  };
  // Writes what is left, fsyncs, and compares the file with memory: its size, all bytes outside
  // arrays, and the arrays of write(). Throws E0501 or E0502. The file is durable but for its name.
  // The last call.
  Finished finish();

  bool has(const std::string& path) const;  // a group or a dataset
  // Names in a group, sorted. Throws when one of them is not a hard link.
  std::vector<std::string> children(const std::string& group) const;
  bool is_dataset(const std::string& path) const;
  // Looks a dataset up and checks everything that Dataset promises.
  Dataset dataset(const std::string& path) const;
  void read(const Dataset& dataset, std::span<std::byte> into) const;
  // The whole array; throws when its type is not T. `shape`, unless null, receives its shape.
  template <typename T>
  std::vector<T> read(const std::string& path, std::vector<int64_t>* shape = nullptr) const {
    const Dataset found = dataset(path);
    check_type(found, {type_name<T>()});
    std::vector<T> values(static_cast<size_t>(found.bytes) / sizeof(T));
    read(found, std::as_writable_bytes(std::span(values)));
    if (shape) *shape = found.shape;
    return values;
  }
  void check_type(const Dataset& dataset, std::initializer_list<std::string_view> types) const;

  bool has_attribute(const std::string& object, const std::string& name) const;
  std::string get_text(const std::string& object, const std::string& name) const;
  int64_t get_int(const std::string& object, const std::string& name) const;
  uint64_t get_uint(const std::string& object, const std::string& name) const;
  // All text and number attributes of an object, by name, but the mark of a sealed file.
  std::vector<Attribute> attributes(const std::string& object) const;

  [[noreturn]] void fail_read(const std::string& what) const;

  ~File();
  File(File&& other) noexcept;

 private:
  struct Output;

  File();
  Handle open_object(const std::string& path) const;  // by hard links only
  Handle open_attribute(const std::string& object, const std::string& name) const;
  Attribute get_attribute(const std::string& object, const std::string& name) const;
  Handle require_group(const std::string& path);
  Handle object_for_writing(const std::string& path);
  void check_heaps() const;  // throws when text of variable length cannot be read safely
  void set_scalar(const std::string& object, const std::string& name, hid_t type,
                  const void* value);

  std::filesystem::path path_;
  int64_t size_ = 0;
  ErrorCode code_ = ErrorCode::kBadHdf5;
  ErrorCode corrupt_ = ErrorCode::kBadHdf5;
  mutable bool heaps_checked_ = false;
  std::unique_ptr<Output> output_;  // of a new file; the library uses it until file_ is closed
  Handle file_;
};

// Runs `fill` on a new temporary file, seals it (seal.h), then replaces `path` by it: fsync,
// rename, fsync of the directory. A crash or an exception leaves what was there.
void write_file(const std::filesystem::path& path, const std::function<void(File&)>& fill);

}  // namespace sutor::h5
