#include "csrc/base/hdf5/memory_driver.h"

#include <H5FDpublic.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>

namespace sutor::h5 {
namespace {

constexpr haddr_t kMaxAddress = (haddr_t{1} << 62) - 1;

// What the library knows of an open file; it sees the first member only.
struct MemoryFile {
  H5FD_t known;
  FileImage* image;
  haddr_t end_of_allocation;
};

// In the property list.
struct DriverInfo {
  FileImage* image;
};

MemoryFile* of(H5FD_t* file) { return reinterpret_cast<MemoryFile*>(file); }
const MemoryFile* of(const H5FD_t* file) { return reinterpret_cast<const MemoryFile*>(file); }

H5FD_t* open_file(const char*, unsigned, hid_t access, haddr_t) {
  const auto* info = static_cast<const DriverInfo*>(H5Pget_driver_info(access));
  if (info == nullptr) return nullptr;
  auto* file = new (std::nothrow) MemoryFile{{}, info->image, 0};
  return file == nullptr ? nullptr : &file->known;
}

herr_t close_file(H5FD_t* file) {
  of(file)->image->set_size(static_cast<int64_t>(of(file)->end_of_allocation));
  delete of(file);
  return 0;
}

// Those of the library's own driver of files, so that it lays a file out in the same way.
herr_t features(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr) {
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
  }
  return 0;
}

haddr_t end_of_allocation(const H5FD_t* file, H5FD_mem_t) { return of(file)->end_of_allocation; }

herr_t set_end_of_allocation(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  of(file)->end_of_allocation = end;
  return 0;
}

haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) {
  return static_cast<haddr_t>(of(file)->image->written_end());
}

herr_t read_file(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t offset, size_t size, void* into) {
  of(file)->image->read(static_cast<int64_t>(offset), {static_cast<std::byte*>(into), size});
  return 0;
}

herr_t write_file(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t offset, size_t size, const void* from) {
  try {
    of(file)->image->write(static_cast<int64_t>(offset),
                           {static_cast<const std::byte*>(from), size});
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

hid_t driver() {
  static const hid_t id = [] {
    static constexpr H5FD_mem_t kKinds[] = H5FD_FLMAP_DICHOTOMY;
    static H5FD_class_t driver = {};  // the library keeps a pointer to it
#ifdef H5FD_CLASS_VERSION
    driver.version = H5FD_CLASS_VERSION;
    driver.value = static_cast<H5FD_class_value_t>(600);  // one that nobody registered
#endif
    driver.name = "sutor_memory";
    driver.maxaddr = kMaxAddress;
    driver.fc_degree = H5F_CLOSE_STRONG;
    driver.fapl_size = sizeof(DriverInfo);
    driver.open = open_file;
    driver.close = close_file;
    driver.query = features;
    driver.get_eoa = end_of_allocation;
    driver.set_eoa = set_end_of_allocation;
    driver.get_eof = end_of_file;
    driver.read = read_file;
    driver.write = write_file;
    std::copy(std::begin(kKinds), std::end(kKinds), driver.fl_map);
    return H5FDregister(&driver);
  }();
  return id;
}

}  // namespace

void FileImage::write(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const int64_t at = offset % kPageBytes;
    const auto part = bytes.first(
        static_cast<size_t>(std::min(kPageBytes - at, static_cast<int64_t>(bytes.size()))));
    std::unique_ptr<Page>& page = pages_[offset / kPageBytes];
    if (!page) page = std::make_unique<Page>();  // zeros
    std::memcpy(page->data() + at, part.data(), part.size());
    offset += static_cast<int64_t>(part.size());
    bytes = bytes.subspan(part.size());
  }
  written_end_ = std::max(written_end_, offset);
}

void FileImage::read(int64_t offset, std::span<std::byte> into) const {
  std::fill(into.begin(), into.end(), std::byte{0});
  const int64_t end = offset + static_cast<int64_t>(into.size());
  for (auto page = pages_.lower_bound(offset / kPageBytes);
       page != pages_.end() && page->first * kPageBytes < end; ++page) {
    const int64_t begin = std::max(offset, page->first * kPageBytes);
    const int64_t stop = std::min(end, (page->first + 1) * kPageBytes);
    std::memcpy(into.data() + (begin - offset), page->second->data() + begin % kPageBytes,
                static_cast<size_t>(stop - begin));
  }
}

bool set_memory_driver(hid_t access, FileImage* image) {
  const DriverInfo info{image};
  return driver() >= 0 && H5Pset_driver(access, driver(), &info) >= 0;
}

}  // namespace sutor::h5
