// Reading HDF5 files: looks objects up by hard links and checks that they are safe to read.
#include "csrc/base/hdf5/h5.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/hdf5/global_heap.h"
#include "csrc/base/hdf5/h5_detail.h"
#include "csrc/base/hdf5/seal.h"

namespace sutor::h5 {
namespace {

constexpr int kMaxRank = 8;

// The type of an array in the file; nothing for a type that sutor never writes.
std::optional<std::string> plain_type(hid_t type) {
  const size_t size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: {
      const bool whole = H5Tget_precision(type) == 8 * size && H5Tget_offset(type) == 0;
      const bool little = size == 1 || H5Tget_order(type) == H5T_ORDER_LE;
      if (!whole || !little || (size != 1 && size != 2 && size != 4 && size != 8)) return {};
      return fmt::format("{}{}", H5Tget_sign(type) == H5T_SGN_NONE ? 'U' : 'I', 8 * size);
    }
    case H5T_FLOAT:
      if (H5Tequal(type, H5T_IEEE_F32LE) > 0) return "F32";
      if (H5Tequal(type, H5T_IEEE_F64LE) > 0) return "F64";
      return {};
    default:
      return {};
  }
}

struct Names {
  std::vector<std::string> names;
  std::string refused;
};

herr_t collect_link(hid_t, const char* name, const H5L_info_t* info, void* into) {
  auto* found = static_cast<Names*>(into);
  if (info->type != H5L_TYPE_HARD && found->refused.empty()) found->refused = name;
  found->names.emplace_back(name);
  return 0;
}

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* into) {
  static_cast<Names*>(into)->names.emplace_back(name);
  return 0;
}

// Why a dataset's storage would read other files or need code to decode; empty = plain.
std::string storage_objection(hid_t list) {
  switch (H5Pget_layout(list)) {
    case H5D_CONTIGUOUS:
      break;
    case H5D_CHUNKED:
      return "it is stored in chunks";
    case H5D_COMPACT:
      return "it is stored compactly, inside its header";
    default:
      return "it is virtual";
  }
  if (H5Pget_external_count(list) != 0) return "its data are in another file";
  if (H5Pget_nfilters(list) != 0) return "it is filtered";
  return {};
}

}  // namespace

File File::open(const std::filesystem::path& path, ErrorCode code, ErrorCode corrupt) {
  prepare_thread();
  if (const std::string objection = file_objection(path); !objection.empty()) {
    fail(code, "{} {}", path.string(), objection);
  }
  File file;
  file.path_ = path;
  file.code_ = code;
  file.corrupt_ = corrupt;
  file.size_ = bytes_of(path);
  const bool sealed = check_seal(path, code, corrupt);
  Handle access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  // Nobody writes a published file, and locks hang or fail on some network file systems.
  H5Pset_file_locking(access.get(), false, true);
  file.file_ = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
  if (file.file_.get() < 0) {
    fail(code, "{} is not a readable HDF5 file: {}", path.string(), last_error());
  }
  if (!sealed && file.has_attribute("/", kSealedAttribute)) {
    fail(corrupt,
         "{} is corrupt: the sum of its bytes, which should be its end, is missing or damaged. "
         "Make it again.",
         path.string());
  }
  return file;
}

void File::fail_read(const std::string& what) const { fail(code_, "{}: {}", path_.string(), what); }

Handle File::open_object(const std::string& path) const {
  Handle at(H5Gopen2(file_.get(), "/", H5P_DEFAULT));
  if (at.get() < 0) fail_read(fmt::format("its root group cannot be opened: {}", last_error()));
  for (const std::string& step : steps_of(path)) {
    H5L_info_t link;
    if (H5Iget_type(at.get()) != H5I_GROUP || H5Lexists(at.get(), step.c_str(), H5P_DEFAULT) <= 0) {
      fail_read(fmt::format("{} is missing", path));
    }
    if (H5Lget_info(at.get(), step.c_str(), &link, H5P_DEFAULT) < 0) {
      fail_read(fmt::format("{} cannot be looked up: {}", path, last_error()));
    }
    if (link.type != H5L_TYPE_HARD) {
      fail_read(
          fmt::format("{} is reached through a soft or external link, which is refused", path));
    }
    Handle next(H5Oopen(at.get(), step.c_str(), H5P_DEFAULT));
    if (next.get() < 0) fail_read(fmt::format("{} cannot be opened: {}", path, last_error()));
    at = std::move(next);
  }
  return at;
}

bool File::has(const std::string& path) const {
  Handle at(H5Gopen2(file_.get(), "/", H5P_DEFAULT));
  for (const std::string& step : steps_of(path)) {
    H5L_info_t link;
    if (H5Iget_type(at.get()) != H5I_GROUP) return false;
    if (H5Lexists(at.get(), step.c_str(), H5P_DEFAULT) <= 0) return false;
    if (H5Lget_info(at.get(), step.c_str(), &link, H5P_DEFAULT) < 0) return false;
    if (link.type != H5L_TYPE_HARD) return false;
    at = Handle(H5Oopen(at.get(), step.c_str(), H5P_DEFAULT));
  }
  return at.get() >= 0;
}

bool File::is_dataset(const std::string& path) const {
  return H5Iget_type(open_object(path).get()) == H5I_DATASET;
}

std::vector<std::string> File::children(const std::string& group) const {
  const Handle at = open_object(group);
  if (H5Iget_type(at.get()) != H5I_GROUP) fail_read(fmt::format("{} is not a group", group));
  Names found;
  hsize_t position = 0;
  if (H5Literate(at.get(), H5_INDEX_NAME, H5_ITER_INC, &position, collect_link, &found) < 0) {
    fail_read(fmt::format("group {} cannot be listed: {}", group, last_error()));
  }
  if (!found.refused.empty()) {
    fail_read(fmt::format("{} in group {} is a soft or external link, which is refused",
                          found.refused, group));
  }
  return std::move(found.names);
}

Dataset File::dataset(const std::string& path) const {
  const Handle opened = open_object(path);
  if (H5Iget_type(opened.get()) != H5I_DATASET) fail_read(fmt::format("{} is not a dataset", path));
  const Handle creation(H5Dget_create_plist(opened.get()));
  if (creation.get() < 0) fail_read(fmt::format("{}: {}", path, last_error()));
  if (const std::string objection = storage_objection(creation.get()); !objection.empty()) {
    fail_read(fmt::format("dataset {} must be contiguous and unfiltered in this file, but {}", path,
                          objection));
  }
  const Handle type(H5Dget_type(opened.get()));
  const std::optional<std::string> plain = plain_type(type.get());
  if (!plain) {
    fail_read(fmt::format("dataset {} must hold little-endian integers or floats of 32 or 64 bits",
                          path));
  }
  Dataset found{path, *plain, {}, 0, static_cast<int64_t>(H5Tget_size(type.get()))};
  const Handle space(H5Dget_space(opened.get()));
  const H5S_class_t extent = H5Sget_simple_extent_type(space.get());
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if ((extent != H5S_SIMPLE && extent != H5S_SCALAR) || rank < 0 || rank > kMaxRank) {
    fail_read(fmt::format("dataset {} must be an array of at most {} axes", path, kMaxRank));
  }
  hsize_t dims[kMaxRank] = {};
  if (rank > 0) H5Sget_simple_extent_dims(space.get(), dims, nullptr);
  for (int axis = 0; axis < rank; ++axis) {
    found.shape.push_back(static_cast<int64_t>(dims[axis]));
    if (found.shape.back() < 0 ||
        __builtin_mul_overflow(found.bytes, found.shape.back(), &found.bytes)) {
      fail_read(fmt::format("dataset {} claims more elements than any file can hold", path));
    }
  }
  if (found.bytes > 0) {
    const haddr_t offset = H5Dget_offset(opened.get());
    const auto stored = static_cast<int64_t>(H5Dget_storage_size(opened.get()));
    found.offset = static_cast<int64_t>(offset);
    if (offset == HADDR_UNDEF || stored != found.bytes || found.bytes > size_ ||
        found.offset > size_ - found.bytes) {
      fail_read(
          fmt::format("dataset {} needs {} bytes, but the file of {} bytes does not hold them",
                      path, found.bytes, size_));
    }
  }
  if ((found.type == "U16" || found.type == "U8") && has_attribute(path, "dtype")) {
    const std::string meant = get_text(path, "dtype");
    const bool known =
        found.type == "U16" ? meant == "BF16" || meant == "F16" : is_byte_type(meant);
    if (!known) fail_read(fmt::format("dataset {} has the unknown dtype `{}`", path, meant));
    found.type = meant;
  }
  return found;
}

void File::read(const Dataset& dataset, std::span<std::byte> into) const {
  SUTOR_ASSERT(dataset.bytes == static_cast<int64_t>(into.size()));
  if (into.empty()) return;
  const Handle opened = open_object(dataset.path);
  if (H5Dread(opened.get(), file_type(dataset.type), H5S_ALL, H5S_ALL, H5P_DEFAULT, into.data()) <
      0) {
    fail_read(fmt::format("dataset {} cannot be read: {}", dataset.path, last_error()));
  }
}

void File::check_type(const Dataset& dataset, std::initializer_list<std::string_view> types) const {
  if (std::find(types.begin(), types.end(), dataset.type) != types.end()) return;
  fail_read(fmt::format("dataset {} must be of type {}, but it is of type {}", dataset.path,
                        fmt::join(types, " or "), dataset.type));
}

bool File::has_attribute(const std::string& object, const std::string& name) const {
  const Handle at = open_object(object);
  return H5Aexists(at.get(), name.c_str()) > 0;
}

Handle File::open_attribute(const std::string& object, const std::string& name) const {
  const Handle at = open_object(object);
  if (H5Aexists(at.get(), name.c_str()) <= 0) {
    fail_read(fmt::format("attribute `{}` of {} is missing", name, object));
  }
  Handle opened(H5Aopen(at.get(), name.c_str(), H5P_DEFAULT));
  if (opened.get() < 0) {
    fail_read(fmt::format("attribute `{}` of {} cannot be opened: {}", name, object, last_error()));
  }
  return opened;
}

void File::check_heaps() const {
  if (!heaps_checked_ && !has_sound_heaps(InputFile(path_))) {
    fail(corrupt_, "{}: its texts are damaged. Make it again: then they are stored with a sum",
         path_.string());
  }
  heaps_checked_ = true;
}

Attribute File::get_attribute(const std::string& object, const std::string& name) const {
  const Handle opened = open_attribute(object, name);
  const Handle type(H5Aget_type(opened.get()));
  const Handle space(H5Aget_space(opened.get()));
  const auto refuse = [&](std::string_view why) {
    fail_read(fmt::format("attribute `{}` of {} {}", name, object, why));
  };
  if (H5Sget_simple_extent_npoints(space.get()) != 1) refuse("must be a single value");
  Attribute found;
  found.name = name;
  herr_t status = 0;
  switch (H5Tget_class(type.get())) {
    case H5T_INTEGER:
      found.kind = Attribute::kInteger;
      status =
          H5Aread(opened.get(),
                  H5Tget_sign(type.get()) == H5T_SGN_NONE ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64,
                  &found.integer);
      break;
    case H5T_FLOAT:
      found.kind = Attribute::kReal;
      status = H5Aread(opened.get(), H5T_NATIVE_DOUBLE, &found.real);
      break;
    case H5T_STRING:
      if (H5Tis_variable_str(type.get()) > 0) {
        check_heaps();
        char* text = nullptr;
        status = H5Aread(opened.get(), type.get(), &text);
        if (status >= 0 && text) found.text = text;
        if (text) H5free_memory(text);
      } else {
        if (H5Tget_size(type.get()) > static_cast<size_t>(size_)) refuse("is longer than the file");
        found.text.resize(H5Tget_size(type.get()));
        status = H5Aread(opened.get(), type.get(), found.text.data());
        found.text.resize(std::strlen(found.text.c_str()));
      }
      break;
    default:
      refuse("must be a number or a text");
  }
  if (status < 0) refuse(fmt::format("cannot be read: {}", last_error()));
  return found;
}

std::vector<Attribute> File::attributes(const std::string& object) const {
  const Handle at = open_object(object);
  Names found;
  hsize_t position = 0;
  if (H5Aiterate2(at.get(), H5_INDEX_NAME, H5_ITER_INC, &position, collect_attribute, &found) < 0) {
    fail_read(fmt::format("attributes of {} cannot be listed: {}", object, last_error()));
  }
  std::vector<Attribute> list;
  for (const std::string& name : found.names) {
    if (name != kSealedAttribute) list.push_back(get_attribute(object, name));
  }
  return list;
}

std::string File::get_text(const std::string& object, const std::string& name) const {
  Attribute found = get_attribute(object, name);
  if (found.kind != Attribute::kText) {
    fail_read(fmt::format("attribute `{}` of {} must be a text", name, object));
  }
  return std::move(found.text);
}

int64_t File::get_int(const std::string& object, const std::string& name) const {
  const Attribute found = get_attribute(object, name);
  if (found.kind != Attribute::kInteger) {
    fail_read(fmt::format("attribute `{}` of {} must be an integer", name, object));
  }
  return found.integer;
}

uint64_t File::get_uint(const std::string& object, const std::string& name) const {
  return static_cast<uint64_t>(get_int(object, name));
}

}  // namespace sutor::h5
