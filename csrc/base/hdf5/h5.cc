// Writing HDF5 files, and the functions that the reader shares.
#include "csrc/base/hdf5/h5.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/h5_detail.h"
#include "csrc/base/hdf5/h5_output.h"
#include "csrc/base/hdf5/seal.h"

namespace sutor::h5 {
namespace {

// Smaller arrays are packed without alignment: padding each to a page would cost too much.
constexpr hsize_t kAlignmentThreshold = hsize_t{1} << 20;

herr_t keep_innermost(unsigned n, const H5E_error2_t* error, void* into) {
  if (n == 0 && error->desc) {
    *static_cast<std::string*>(into) = fmt::format("{}: {}", error->func_name, error->desc);
  }
  return 0;
}

[[noreturn]] void fail_h5_write(const std::filesystem::path& path, const std::string& what) {
  fail(ErrorCode::kWriteFailed, "cannot {} in {}: {}", what, path.string(), last_error());
}

// Whether HDF5 has no name for the type.
bool needs_type_attribute(std::string_view type) {
  return type == "BF16" || type == "F16" || is_byte_type(type);
}

Handle without_times(hid_t list_class) {
  Handle list(H5Pcreate(list_class));
  H5Pset_obj_track_times(list.get(), false);
  return list;
}

}  // namespace

void prepare_thread() {
  static std::once_flag plugins_off;
  std::call_once(plugins_off, [] { H5PLset_loading_state(0); });
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

bool is_byte_type(std::string_view type) {
  static constexpr std::string_view kTypes[] = {"BOOL",        "F8_E4M3",     "F8_E5M2", "F8_E8M0",
                                                "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4",      "F6_E2M3",
                                                "F6_E3M2",     "C64"};
  return std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
}

hid_t file_type(std::string_view type) {
  if (is_byte_type(type)) return H5T_STD_U8LE;
  static const std::pair<std::string_view, hid_t> kTypes[] = {
      {"F32", H5T_IEEE_F32LE}, {"F64", H5T_IEEE_F64LE}, {"BF16", H5T_STD_U16LE},
      {"F16", H5T_STD_U16LE},  {"I8", H5T_STD_I8LE},    {"I16", H5T_STD_I16LE},
      {"I32", H5T_STD_I32LE},  {"I64", H5T_STD_I64LE},  {"U8", H5T_STD_U8LE},
      {"U16", H5T_STD_U16LE},  {"U32", H5T_STD_U32LE},  {"U64", H5T_STD_U64LE}};
  for (const auto& [name, id] : kTypes) {
    if (name == type) return id;
  }
  fail(ErrorCode::kBrokenInvariant, "internal error: no HDF5 type for {}", type);
}

std::vector<std::string> steps_of(const std::string& path) {
  std::vector<std::string> steps;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin) steps.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return steps;
}

Handle::~Handle() {
  if (id_ >= 0) H5Idec_ref(id_);
}

Handle::Handle(Handle&& other) noexcept : id_(other.release()) {}

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this != &other) {
    if (id_ >= 0) H5Idec_ref(id_);
    id_ = other.release();
  }
  return *this;
}

hid_t Handle::release() { return std::exchange(id_, H5I_INVALID_HID); }

bool is_thread_safe() {
  hbool_t safe = false;
  return H5is_library_threadsafe(&safe) >= 0 && safe;
}

std::string last_error() {
  std::string message;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &message);
  return message.empty() ? "the HDF5 library gives no reason" : message;
}

File::File() = default;
File::~File() = default;
File::File(File&& other) noexcept = default;

File File::create(const std::filesystem::path& path, int64_t alignment) {
  prepare_thread();
  File file;
  file.path_ = path;
  file.code_ = ErrorCode::kWriteFailed;
  file.output_ = std::make_unique<Output>(path);
  Handle creation = without_times(H5P_FILE_CREATE);
  Handle access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  if (alignment > 1) {
    H5Pset_alignment(access.get(), kAlignmentThreshold, static_cast<hsize_t>(alignment));
  }
  if (!set_memory_driver(access.get(), &file.output_->image)) {
    fail_h5_write(path, "prepare the HDF5 file");
  }
  file.file_ = Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()));
  if (file.file_.get() < 0) fail_h5_write(path, "create the HDF5 file");
  return file;
}

void File::reserve(int64_t bytes) { output_->disk.reserve(bytes); }

void File::write_at(int64_t offset, std::span<const std::byte> bytes) const {
  output_->disk.write_at(offset, bytes);
}

void File::start_writing(int64_t offset, int64_t bytes) const {
  output_->disk.start_writing(offset, bytes);
}

File::Finished File::finish() {
  const hid_t id = file_.release();
  if (id < 0 || H5Fclose(id) < 0) fail_h5_write(path_, "finish the file");
  return output_->finish();
}

Handle File::require_group(const std::string& path) {
  Handle at(H5Gopen2(file_.get(), "/", H5P_DEFAULT));
  const Handle creation = without_times(H5P_GROUP_CREATE);
  for (const std::string& step : steps_of(path)) {
    const htri_t exists = H5Lexists(at.get(), step.c_str(), H5P_DEFAULT);
    Handle next(exists > 0
                    ? H5Gopen2(at.get(), step.c_str(), H5P_DEFAULT)
                    : H5Gcreate2(at.get(), step.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
    if (next.get() < 0) fail_h5_write(path_, fmt::format("make group {}", path));
    at = std::move(next);
  }
  return at;
}

Dataset File::create_dataset(const std::string& path, std::string_view type,
                             const std::vector<int64_t>& shape) {
  const size_t slash = path.rfind('/');
  SUTOR_ASSERT(slash != std::string::npos && slash + 1 < path.size());
  const Handle group = require_group(path.substr(0, slash));
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const Handle space(shape.empty()
                         ? H5Screate(H5S_SCALAR)
                         : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
  const Handle creation = without_times(H5P_DATASET_CREATE);
  H5Pset_layout(creation.get(), H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER);
  const hid_t stored = file_type(type);
  const Handle made(H5Dcreate2(group.get(), path.c_str() + slash + 1, stored, space.get(),
                               H5P_DEFAULT, creation.get(), H5P_DEFAULT));
  if (made.get() < 0) fail_h5_write(path_, fmt::format("make dataset {}", path));
  Dataset dataset{path, std::string(type), shape, 0, static_cast<int64_t>(H5Tget_size(stored))};
  for (const int64_t size : shape) dataset.bytes *= size;
  const haddr_t offset = H5Dget_offset(made.get());
  if (dataset.bytes > 0 && offset == HADDR_UNDEF) {
    fail_h5_write(path_, fmt::format("find room for dataset {}", path));
  }
  if (dataset.bytes > 0) dataset.offset = static_cast<int64_t>(offset);
  if (needs_type_attribute(type)) set_text(path, "dtype", type);
  if (dataset.bytes > 0) output_->arrays.push_back({dataset.offset, dataset.bytes, std::nullopt});
  return dataset;
}

Dataset File::write(const std::string& path, std::string_view type,
                    const std::vector<int64_t>& shape, std::span<const std::byte> bytes) {
  return write(path, type, shape, bytes, xxh3(bytes));
}

Dataset File::write(const std::string& path, std::string_view type,
                    const std::vector<int64_t>& shape, std::span<const std::byte> bytes,
                    const Digest& digest) {
  Dataset dataset = create_dataset(path, type, shape);
  SUTOR_ASSERT(dataset.bytes == static_cast<int64_t>(bytes.size()));
  dataset.digest = digest;
  if (bytes.empty()) return dataset;
  write_at(dataset.offset, bytes);
  output_->arrays.back().digest = dataset.digest;
  return dataset;
}

Handle File::object_for_writing(const std::string& path) {
  if (path == "/" || H5Lexists(file_.get(), path.c_str(), H5P_DEFAULT) > 0) {
    return Handle(H5Oopen(file_.get(), path.c_str(), H5P_DEFAULT));
  }
  return require_group(path);
}

void File::set_scalar(const std::string& object, const std::string& name, hid_t type,
                      const void* value) {
  const Handle at = object_for_writing(object);
  const Handle space(H5Screate(H5S_SCALAR));
  const Handle made(
      H5Acreate2(at.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT));
  if (made.get() < 0 || H5Awrite(made.get(), type, value) < 0) {
    fail_h5_write(path_, fmt::format("write attribute {} of {}", name, object));
  }
}

void File::set_text(const std::string& object, const std::string& name, std::string_view text) {
  const Handle type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<size_t>(text.size(), 1));
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  const char nothing = '\0';
  set_scalar(object, name, type.get(), text.empty() ? &nothing : text.data());
}

void File::set_int(const std::string& object, const std::string& name, int64_t value) {
  set_scalar(object, name, H5T_STD_I64LE, &value);
}

void File::set_uint(const std::string& object, const std::string& name, uint64_t value) {
  set_scalar(object, name, H5T_STD_U64LE, &value);
}

void write_file(const std::filesystem::path& path, const std::function<void(File&)>& fill) {
  replace_file(path, [&](const std::filesystem::path& temporary) {
    File file = File::create(temporary);
    file.set_int("/", kSealedAttribute, 1);
    fill(file);
    file.finish();
    seal_file(temporary);
  });
}

}  // namespace sutor::h5
