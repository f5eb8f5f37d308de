// The safetensors reader accepts exactly the legal files; the writer writes the reference's bytes.
#include "csrc/base/safetensors.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace sutor {
namespace {
using testing::expect_error;
using testing::TempDir;

std::string prefix_of(uint64_t length) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i));
  return bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return prefix_of(header.size()) + header + std::string(data_bytes, 'd');
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file.data(), file.size())),
                                  static_cast<int64_t>(file.size()), "model.safetensors");
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, LegalFilesAreRead) {
  const auto accepts = [](const std::string& header, size_t bytes, size_t tensors) {
    EXPECT_EQ(parse(file_of(header, bytes)).tensors.size(), tensors) << header;
  };
  accepts("{}", 0, 0);
  accepts(R"({"__metadata__":{"format":"pt","x":"y"}})", 0, 0);
  accepts(R"({"__metadata__":{}}   )", 0, 0);
  accepts(one("F32", "[]", "[0,4]"), 4, 1);       // a scalar
  accepts(one("F32", "[0,7]", "[0,0]"), 0, 1);    // empty
  accepts(one("F8_E4M3", "[3]", "[0,3]"), 3, 1);  // nothing we compute with
  accepts(one("U16", "[3]", "[0,6]"), 6, 1);
  accepts(one("F4", "[2,2]", "[0,2]"), 2, 1);  // half a byte each
  accepts(one("F6_E2M3", "[4]", "[0,3]"), 3, 1);
  accepts(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
          R"("a":{"data_offsets":[0,2],"shape":[1],"dtype":"BF16"}})",
          3, 2);  // any order
  accepts(R"({"e":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
          R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          1, 2);  // empty before a real one
  accepts(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, 1);
}

TEST(Safetensors, EntriesComeInTheOrderOfTheirBytesWithFileOffsets) {
  const std::string file = file_of(R"({"b":{"dtype":"F8_E5M2","shape":[1],"data_offsets":[2,3]},)"
                                   R"("a":{"data_offsets":[0,2],"shape":[1],"dtype":"BF16"}})",
                                   3);
  const SafetensorsHeader header = parse(file);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].dtype, DType::kBF16);
  EXPECT_EQ(header.tensors[0].begin, static_cast<int64_t>(file.size()) - 3);
  EXPECT_EQ(header.tensors[1].name, "b");
  EXPECT_EQ(header.tensors[1].dtype, std::nullopt);
  EXPECT_EQ(header.tensors[1].dtype_name, "F8_E5M2");
  EXPECT_EQ(header.tensors[1].end, static_cast<int64_t>(file.size()));
}

TEST(Safetensors, BrokenHeadersAreRefused) {
  const auto refuses = [](const std::string& header, size_t bytes, const char* reason) {
    SCOPED_TRACE(header);
    expect_error(ErrorCode::kBrokenFile, {"model.safetensors", reason},
                 [&] { parse(file_of(header, bytes)); });
  };
  refuses("", 0, "does not start with");
  refuses(" {}", 0, "does not start with");
  refuses("[]", 0, "does not start with");
  refuses("{} x", 0, "no valid UTF-8 JSON");
  refuses("{\"\xff\":1}", 0, "no valid UTF-8 JSON");
  refuses("{\"\xc0\xaf\":1}", 0, "no valid UTF-8 JSON");  // overlong
  refuses("{", 0, "no valid UTF-8 JSON");
  refuses(R"({"w":NaN})", 0, "no valid UTF-8 JSON");
  refuses(R"({"w":1})", 0, "a number where none belongs");
  refuses(R"({"w":null})", 0, "null");
  refuses(R"({"w":true})", 0, "truth value");
  refuses(R"({"w":"x"})", 0, "a string");
  refuses(R"({"w":[]})", 0, "an array");
  refuses(R"({"__metadata__":{"a":1}})", 0, "a number");
  refuses(R"({"__metadata__":{"a":{}}})", 0, "an object");
  refuses(R"({"__metadata__":{"a":"x","a":"y"}})", 0, "twice");
  refuses(R"({"__metadata__":{},"__metadata__":{}})", 0, "twice");
  refuses(R"({"w":{"dtype":"U8","shape":[1]}})", 1, "all needed");
  refuses(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1, "unknown key `x`");
  refuses(R"({"w":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, "twice");
  refuses(R"({"w":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "an array");
  refuses(R"({"w":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "a number");
  refuses(R"({"w":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}})", 1, "an array");
  refuses(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
          R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          2, "twice");
}

TEST(Safetensors, BadSizesAndOffsetsAreRefusedWithTheTensorNamed) {
  const auto refuses = [](const std::string& header, size_t bytes, const char* reason) {
    SCOPED_TRACE(header);
    expect_error(ErrorCode::kBrokenFile, {"`w`", reason}, [&] { parse(file_of(header, bytes)); });
  };
  refuses(one("XYZ", "[1]", "[0,1]"), 1, "unknown dtype `XYZ`");
  refuses(one("U8", "[1]", "[0,1,2]"), 1, "two numbers");
  refuses(one("U8", "[1]", "[0]"), 1, "two numbers");
  refuses(one("U8", "[1]", "[1,0]"), 1, "reversed");
  refuses(one("U8", "[1]", "[-1,0]"), 1, "negative");
  refuses(one("U8", "[-1]", "[0,1]"), 1, "negative");
  refuses(one("U8", "[1]", "[0.0,1]"), 1, "not an unsigned integer");
  refuses(one("U8", "[1e0]", "[0,1]"), 1, "not an unsigned integer");
  refuses(one("U8", "[18446744073709551615]", "[0,1]"), 1, "too large");
  refuses(one("U8", "[4294967296,4294967296,2]", "[0,0]"), 0, "no valid number of bytes");
  refuses(one("F32", "[4611686018427387904]", "[0,0]"), 0, "no valid number of bytes");
  refuses(one("F4", "[3]", "[0,1]"), 1, "no valid number of bytes");  // ends inside a byte
  refuses(one("F32", "[2]", "[0,4]"), 4, "needs 8 bytes");
  refuses(one("U8", "[1]", "[1,2]"), 2, "a hole");
  refuses(one("U8", "[4]", "[0,4]"), 3, "ends at byte");
  refuses(R"({"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
          R"("w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
          3, "an overlap");
  refuses(R"({"v":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
          R"("w":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
          4, "an overlap");
  refuses(R"({"v":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
          R"("w":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
          3, "a hole");
  expect_error(ErrorCode::kBrokenFile, {"3 bytes follow the last tensor"},
               [] { parse(file_of(one("U8", "[1]", "[0,1]"), 4)); });
}

TEST(Safetensors, ImpossibleHeaderLengthsAreRefusedBeforeAnythingIsAllocated) {
  expect_error(ErrorCode::kBrokenFile, {"4 bytes only"}, [] { parse("abcd"); });
  expect_error(ErrorCode::kBrokenFile, {"no safetensors file"},
               [] { parse(prefix_of(100'000'001) + "{}"); });
  expect_error(ErrorCode::kBrokenFile, {"no safetensors file"},
               [] { parse(prefix_of(~uint64_t{0}) + "{}"); });
  expect_error(ErrorCode::kBrokenFile, {"truncated"}, [] { parse(prefix_of(3) + "{}"); });
}

TEST(Safetensors, DeepNestingDoesNotOverflowTheStack) {
  const std::string deep(1'000'000, '[');
  expect_error(ErrorCode::kBrokenFile, {"an array"},
               [&] { parse(file_of(R"({"w":{"shape":)" + deep + "}}", 0)); });
}

TEST(Safetensors, EveryTruncationOfAFileIsRefused) {
  TempDir dir;
  const std::string whole = file_of(one("F32", "[4]", "[0,16]"), 16);
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto path = dir.write("cut.safetensors", whole.substr(0, n));
    expect_error(ErrorCode::kBrokenFile, {"cut.safetensors"}, [&] { SafetensorsFile file(path); });
  }
  EXPECT_NO_THROW(SafetensorsFile(dir.write("whole.safetensors", whole)));
}

TEST(Safetensors, EveryFlippedBitOfAHeaderIsReadOrRefusedButNeverCrashes) {
  const std::string whole = file_of(
      R"({"__metadata__":{"format":"pt"},"a.b":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}})",
      12);
  int refused = 0;
  for (size_t bit = 0; bit < (whole.size() - 12) * 8; ++bit) {
    std::string changed = whole;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    try {
      for (const SafetensorsEntry& entry : parse(changed).tensors) {
        EXPECT_LE(entry.end, static_cast<int64_t>(changed.size()));
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBrokenFile);
      ++refused;
    }
  }
  EXPECT_GT(refused, 300);  // the rest are other names and other metadata
}

TEST(SafetensorsWriter, WritesTheBytesOfThePythonLibrary) {
  // safetensors 0.8.0: save_file({"b": int64 [1], "a": float32 [2], "c": bfloat16 [], "e": float32
  // [0, 4]}, metadata={"format": "pt"})
  TempDir dir;
  std::vector<SafetensorsDeclaration> tensors = {
      {"c", "BF16", {}}, {"e", "F32", {0, 4}}, {"a", "F32", {2}}, {"b", "I64", {1}}};
  sort_as_safetensors(tensors);
  const std::string data =
      std::string("\x07\0\0\0\0\0\0\0", 8) + std::string("\0\0\x80\x3f\0\0\0\x40", 8) + "\x40\x40";
  SafetensorsWriter writer(dir / "x.safetensors", tensors);
  writer.append(std::as_bytes(std::span(data.data(), 5)));
  writer.append(std::as_bytes(std::span(data.data() + 5, data.size() - 5)));
  writer.finish();
  EXPECT_EQ(dir.read("x.safetensors"),
            dir.read(std::string(SUTOR_TEST_DATA) + "/golden/safetensors/order.safetensors"));
}

TEST(SafetensorsWriter, ItsFilesAreReadBack) {
  TempDir dir;
  SafetensorsWriter writer(dir / "x.safetensors", {{"quoted \"\u00e9\"", "U8", {3}}}, {});
  writer.append(std::as_bytes(std::span("abc", 3)));
  writer.finish();
  const SafetensorsFile file(dir / "x.safetensors");
  const SafetensorsEntry* entry = file.find("quoted \"\u00e9\"");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(file.header().data_begin % 8, 0);
  EXPECT_TRUE(file.header().metadata.empty());
  std::byte middle[2];
  file.read(*entry, 1, middle);
  EXPECT_EQ(std::to_integer<char>(middle[1]), 'c');
  EXPECT_EQ(std::to_integer<char>(file.bytes(*entry)[0]), 'a');
  EXPECT_EQ(file.find("other"), nullptr);
}

TEST(SafetensorsWriter, ImpossibleShapesAreRefused) {
  TempDir dir;
  const int64_t huge = std::numeric_limits<int64_t>::max();
  expect_error(ErrorCode::kBrokenFile, {"`w`"}, [&] {
    SafetensorsWriter(dir / "x", {{"w", "F32", {huge}}});
  });
  expect_error(ErrorCode::kBrokenFile, {"`w`", "F31"}, [&] {
    SafetensorsWriter(dir / "y", {{"w", "F31", {1}}});
  });
}

}  // namespace
}  // namespace sutor
