// HDF5 files: data are read back bit by bit, equal content gives equal bytes, and files that would
// make the library read elsewhere, run code or allocate too much memory are refused.
#include "csrc/base/hdf5/h5.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "csrc/base/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor::h5 {
namespace {

using testing::expect_error;
using testing::TempDir;

void expect_refused(const std::filesystem::path& path, const std::string& dataset,
                    const std::string& reason) {
  expect_error(ErrorCode::kBadHdf5, {reason}, [&] { File::open(path).dataset(dataset); });
}

// Makes a file with the plain library, as another program would.
template <typename Function>
std::filesystem::path strange_file(const TempDir& dir, Function&& fill) {
  const std::filesystem::path path = dir / "strange.h5";
  const Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  fill(file.get());
  return path;
}

void fill_sample(File& file) {
  file.write<int32_t>("/a/b", {2, 3}, {1, -2, 3, 4, 5, 6});
  file.write<double>("/scalar", {}, {0.5});
  file.write<uint8_t>("/empty", {0}, {});
  file.set_text("/", "note", "Grüße");
  file.set_text("/", "nothing", "");
  file.set_int("/a/b", "count", -7);
  file.set_uint("/", "big", ~uint64_t{0});
  file.set_int("/group", "count", 3);
}

TEST(H5Test, ValuesShapesAndAttributesComeBack) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const File file = File::open(dir / "x.h5");
  std::vector<int64_t> shape;
  EXPECT_EQ(file.read<int32_t>("/a/b", &shape), (std::vector<int32_t>{1, -2, 3, 4, 5, 6}));
  EXPECT_EQ(shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.read<double>("/scalar"), std::vector<double>{0.5});
  EXPECT_TRUE(file.read<uint8_t>("/empty").empty());
  EXPECT_EQ(file.get_text("/", "note"), "Grüße");
  EXPECT_EQ(file.get_text("/", "nothing"), "");
  EXPECT_EQ(file.get_int("/a/b", "count"), -7);
  EXPECT_EQ(file.get_uint("/", "big"), ~uint64_t{0});
  EXPECT_EQ(file.get_int("/group", "count"), 3);
  EXPECT_EQ(file.children("/"), (std::vector<std::string>{"a", "empty", "group", "scalar"}));
  EXPECT_TRUE(file.is_dataset("/a/b"));
  EXPECT_FALSE(file.has("/a/c"));
  EXPECT_EQ(file.attributes("/").size(), 3u);
}

TEST(H5Test, EqualContentGivesEqualBytes) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  ::sleep(1);  // time stamps in the file have a resolution of one second
  write_file(dir / "y.h5", fill_sample);
  EXPECT_EQ(dir.read("x.h5"), dir.read("y.h5"));
}

TEST(H5Test, Bfloat16KeepsEveryBitAndItsName) {
  TempDir dir;
  const std::vector<uint16_t> bits = {0x7fc1, 0x8000, 0xff81, 0x0001, 0x3f80};  // NaNs, -0, ...
  write_file(dir / "x.h5",
             [&](File& file) { file.write("/w", "BF16", {5}, std::as_bytes(std::span(bits))); });
  const File file = File::open(dir / "x.h5");
  const Dataset found = file.dataset("/w");
  EXPECT_EQ(found.type, "BF16");
  std::vector<uint16_t> back(5);
  file.read(found, std::as_writable_bytes(std::span(back)));
  EXPECT_EQ(back, bits);
}

TEST(H5Test, DataLieAtTheRecordedOffset) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const Dataset found = File::open(dir / "x.h5").dataset("/a/b");
  const std::string bytes = dir.read("x.h5");
  int32_t second = 0;
  std::memcpy(&second, bytes.data() + found.offset + 4, 4);
  EXPECT_EQ(second, -2);
}

TEST(H5Test, LongTextAttributesFit) {
  TempDir dir;
  const std::string text(300'000, 'x');
  write_file(dir / "x.h5", [&](File& file) { file.set_text("/", "long", text); });
  EXPECT_EQ(File::open(dir / "x.h5").get_text("/", "long"), text);
}

TEST(H5Test, AWriteThatThrowsLeavesTheOldFileAndNoOther) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const std::string before = dir.read("x.h5");
  EXPECT_THROW(write_file(dir / "x.h5", [](File&) { throw std::runtime_error("no"); }),
               std::runtime_error);
  EXPECT_EQ(dir.read("x.h5"), before);
  EXPECT_EQ(testing::count_entries(dir.path()), 1);
}

TEST(H5Test, CreateRefusesToOverwrite) {
  TempDir dir;
  dir.write("x.h5", "mine");
  expect_error(ErrorCode::kWriteFailed, [&] { File::create(dir / "x.h5"); });
  EXPECT_EQ(dir.read("x.h5"), "mine");
}

// Writes with this limit on the size of files, which makes all beyond it fail.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    signal_ = ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, signal_);
  }

 private:
  rlimit before_ = {};
  sighandler_t signal_ = SIG_DFL;
};

TEST(H5Test, AFailedWriteIsReportedWhereverItIsAndLeavesTheLibraryWhole) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const std::string before = dir.read("x.h5");
  for (rlim_t limit = 0; limit < before.size(); limit += 97) {
    const FileSizeLimit with_limit(limit);
    expect_error(ErrorCode::kWriteFailed, {"x.h5", "ulimit -f"},
                 [&] { write_file(dir / "x.h5", fill_sample); });
  }
  EXPECT_EQ(dir.read("x.h5"), before);
  EXPECT_EQ(testing::count_entries(dir.path()), 1);
  write_file(dir / "y.h5", fill_sample);
  EXPECT_EQ(dir.read("y.h5"), before);
}

TEST(H5Test, DigestsAreOfWhatWasMeant) {
  TempDir dir;
  File file = File::create(dir / "x.h5", 4096);
  const std::vector<float> small = {1, 2, 3}, large(1 << 19, 0.5F);
  const Dataset a = file.write<float>("/a", {3}, small);
  const Dataset b = file.write<float>("/b", {1 << 19}, large);
  const Dataset c = file.create_dataset("/c", "F32", {3});
  file.write_at(c.offset, std::as_bytes(std::span(small)));
  const File::Finished finished = file.finish();
  EXPECT_EQ(a.digest, xxh3(std::as_bytes(std::span(small))));
  EXPECT_EQ(b.digest, xxh3(std::as_bytes(std::span(large))));
  EXPECT_EQ(b.offset % 4096, 0);
  std::string bytes = dir.read("x.h5");
  EXPECT_EQ(finished.bytes, static_cast<int64_t>(bytes.size()));
  std::vector<const Dataset*> arrays = {&a, &b, &c};
  std::sort(arrays.begin(), arrays.end(),
            [](const Dataset* x, const Dataset* y) { return x->offset > y->offset; });
  for (const Dataset* array : arrays) {  // from the last one on
    bytes.erase(static_cast<size_t>(array->offset), static_cast<size_t>(array->bytes));
  }
  EXPECT_EQ(finished.metadata, xxh3(bytes));
  EXPECT_EQ(File::open(dir / "x.h5").read<float>("/c"), small);
}

TEST(H5Test, FilesThatAreNotHdf5AreNamedAndNothingIsPrinted) {
  TempDir dir;
  dir.write("x.h5", "this is text");
  ::testing::internal::CaptureStderr();
  expect_error(ErrorCode::kBadHdf5, {"x.h5"}, [&] { File::open(dir / "x.h5"); });
  expect_error(ErrorCode::kPythonStepData,
               [&] { File::open(dir / "absent.h5", ErrorCode::kPythonStepData); });
  expect_error(ErrorCode::kBadHdf5, [&] { File::open(dir.path()); });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(H5Test, EveryTruncationIsRefused) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const std::string bytes = dir.read("x.h5");
  for (size_t size = 0; size < bytes.size(); size += 7) {
    const auto path = dir.write("y.h5", std::string_view(bytes).substr(0, size));
    expect_error(ErrorCode::kBadHdf5, [&] { File::open(path).read<int32_t>("/a/b"); });
  }
}

TEST(H5Test, SoftAndExternalLinksAreRefused) {
  TempDir dir;
  write_file(dir / "target.h5", fill_sample);
  const auto path = strange_file(dir, [](hid_t file) {
    H5Lcreate_soft("/loop", file, "loop", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external("target.h5", "/scalar", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
  });
  expect_refused(path, "/loop", "link");
  expect_refused(path, "/outside", "link");
  expect_refused(path, "/outside/b", "link");
  expect_error(ErrorCode::kBadHdf5, [&] { File::open(path).children("/"); });
  EXPECT_FALSE(File::open(path).has("/outside"));
}

// A dataset of 8 floats of the given creation property list.
void strange_dataset(hid_t file, const Handle& creation, hid_t type = H5T_IEEE_F32LE,
                     hsize_t size = 8) {
  const Handle space(H5Screate_simple(1, &size, nullptr));
  const Handle made(
      H5Dcreate2(file, "d", type, space.get(), H5P_DEFAULT, creation.get(), H5P_DEFAULT));
  ASSERT_GE(made.get(), 0);
}

TEST(H5Test, ExternalStorageIsRefused) {
  TempDir dir;
  const auto secret = dir.write("secret", std::string(32, 's'));
  const auto path = strange_file(dir, [&](hid_t file) {
    const Handle creation(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_external(creation.get(), secret.c_str(), 0, 32);
    strange_dataset(file, creation);
  });
  expect_refused(path, "/d", "another file");
}

TEST(H5Test, ChunkedFilteredCompactAndVirtualDatasetsAreRefused) {
  TempDir dir;
  const hsize_t size = 8;
  expect_refused(strange_file(dir,
                              [&](hid_t file) {
                                const Handle creation(H5Pcreate(H5P_DATASET_CREATE));
                                H5Pset_chunk(creation.get(), 1, &size);
                                H5Pset_fletcher32(creation.get());
                                strange_dataset(file, creation);
                              }),
                 "/d", "chunks");
  expect_refused(strange_file(dir,
                              [&](hid_t file) {
                                const Handle creation(H5Pcreate(H5P_DATASET_CREATE));
                                H5Pset_layout(creation.get(), H5D_COMPACT);
                                strange_dataset(file, creation);
                              }),
                 "/d", "compactly");
  expect_refused(strange_file(dir,
                              [&](hid_t file) {
                                const Handle creation(H5Pcreate(H5P_DATASET_CREATE));
                                const Handle space(H5Screate_simple(1, &size, nullptr));
                                H5Pset_virtual(creation.get(), space.get(), "other.h5", "/d",
                                               space.get());
                                strange_dataset(file, creation);
                              }),
                 "/d", "virtual");
}

TEST(H5Test, OtherElementTypesAreRefused) {
  TempDir dir;
  const Handle compound(H5Tcreate(H5T_COMPOUND, 8));
  H5Tinsert(compound.get(), "x", 0, H5T_NATIVE_INT);
  const Handle variable(H5Tvlen_create(H5T_NATIVE_INT));
  for (const hid_t type : {compound.get(), variable.get(), H5T_IEEE_F32BE, H5T_STD_I32BE}) {
    expect_refused(strange_file(dir,
                                [&](hid_t file) {
                                  strange_dataset(file, Handle(H5Pcreate(H5P_DATASET_CREATE)),
                                                  type);
                                }),
                   "/d", "little-endian");
  }
}

TEST(H5Test, AShapeBeyondTheFileIsRefusedBeforeMemoryIsAsked) {
  TempDir dir;
  const auto path = strange_file(dir, [](hid_t file) {
    strange_dataset(file, Handle(H5Pcreate(H5P_DATASET_CREATE)), H5T_IEEE_F32LE, hsize_t{1} << 50);
  });
  expect_refused(path, "/d", "does not hold");
}

TEST(H5Test, AWrongElementTypeNamesBoth) {
  TempDir dir;
  write_file(dir / "x.h5", fill_sample);
  const std::string message =
      expect_error(ErrorCode::kBadHdf5, [&] { File::open(dir / "x.h5").read<int64_t>("/a/b"); });
  EXPECT_NE(message.find("I64"), std::string::npos) << message;
  EXPECT_NE(message.find("I32"), std::string::npos) << message;
}

}  // namespace
}  // namespace sutor::h5
