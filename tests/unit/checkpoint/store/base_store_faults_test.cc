// Conversions that were stopped anywhere end in the same bytes; stores that were damaged, or made
// by somebody with other intentions, are refused with the reason named.
#include <gtest/gtest.h>

#include "checkpoint/format/manifest_json.h"
#include "checkpoint/store/base_store.h"
#include "checkpoint/store/open_model.h"
#include "tests/support/base_store_builder.h"
#include "tests/support/expect_error.h"
#include "tests/support/small_model.h"

namespace sutor {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;
using testing::contents_below;
using testing::expect_error;
using testing::make_store;
using testing::restore_store;
using testing::TempDir;

constexpr testing::StoreOptions kSmallFiles{.max_file_bytes = 64 << 10};

// A model whose tensors fall into several data files, one of them divided.
class StoreFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.write("m/config.json", "{\"model_type\": \"small\"}");
    dir_.write("m/tokenizer.json", "{}");
    dir_.write("m/a/b.txt", "text");
    testing::write_bytes(dir_ / "m/model.safetensors", {{"one", "F32", {40, 50}},
                                                        {"two", "BF16", {500, 120}},
                                                        {"three", "U8", {20'000}},
                                                        {"four", "F32", {3}}});
    make_store(dir_ / "m", dir_ / "store", kSmallFiles);
    whole_ = contents_below(dir_ / "store");
    ASSERT_GE(BaseStore(dir_ / "store").manifest().data_files.size(), 4u);
  }

  // The store with one file changed: its content, and, where `vouch`, everything that vouches for
  // it.
  void corrupt(const std::string& file, const std::string& content, bool vouch = false) {
    fs::remove_all(dir_ / "bad");
    fs::copy(dir_ / "store", dir_ / "bad", fs::copy_options::recursive);
    dir_.write("bad/" + file, content);
    if (vouch) {
      change_manifest([&](json& body) {
        for (json& item : body["data_files"]) {
          if (item["index"] != file) continue;
          item["index_bytes"] = content.size();
          item["index_digest"] = xxh3(content).text();
        }
        for (json& item : body["shards"]) {
          if (item["header"] != file) continue;
          item["header_bytes"] = content.size();
          item["header_digest"] = xxh3(content).text();
        }
      });
    }
  }
  void corrupt_nothing() { corrupt("a-file-of-nobody", ""); }

  // Edits the manifest of the damaged copy and makes its digest right.
  void change_manifest(const std::function<void(json&)>& edit) {
    json body = json::parse(dir_.read("bad/MANIFEST.json"));
    body.erase("digest");
    edit(body);
    dir_.write("bad/MANIFEST.json", encode_manifest_json(body));
  }

  // Edits an index of the damaged copy and makes all digests right.
  void change_index(const std::string& file, const std::function<void(StoreIndex&)>& edit) {
    StoreIndex index = decode_store_index(whole_.at(file), file);
    edit(index);
    corrupt(file, encode_store_index(index), /*vouch=*/true);
  }

  void expect_refused(ErrorCode code, const std::vector<std::string>& words) {
    expect_error(code, words, [&] { BaseStore store(dir_ / "bad"); });
  }

  TempDir dir_;
  std::map<std::string, std::string> whole_;
};

// ---- stopped and started again

TEST_F(StoreFaults, AStartAfterAnyStopGivesTheSameBytes) {
  size_t stops = 0;
  for (bool stopped = true; stopped; ++stops) {
    fs::remove_all(dir_ / "again");
    testing::StoreOptions options = kSmallFiles;
    options.stop_after = stops;
    const size_t first = make_store(dir_ / "m", dir_ / "again", options);
    stopped = !fs::exists(dir_ / "again");
    if (!stopped) continue;
    EXPECT_EQ(first, std::min(stops, BaseStore(dir_ / "store").manifest().data_files.size()));
    const size_t second = make_store(dir_ / "m", dir_ / "again", kSmallFiles);
    EXPECT_EQ(first + second, BaseStore(dir_ / "store").manifest().data_files.size());
    EXPECT_TRUE(contents_below(dir_ / "again") == whole_) << stops;
    EXPECT_FALSE(fs::exists(dir_ / ".staging-again.convert"));
  }
  EXPECT_GT(stops, 8u);
}

TEST_F(StoreFaults, LeftoversThatAreIncompleteAreWrittenAgain) {
  testing::StoreOptions options = kSmallFiles;
  options.stop_after = 3;
  const fs::path content = dir_ / ".staging-again.convert/content";
  for (const auto& harm : std::vector<std::function<void()>>{
           [&] { fs::resize_file(content / "b00001.idx", 50); },
           [&] { fs::resize_file(content / "b00001.h5", 1000); },
           [&] { fs::remove(content / "b00001.h5"); }, [&] { fs::remove(content / "b00001.idx"); },
           [&] { dir_.write(".staging-again.convert/parts/0123456789abcdef", "half a file"); }}) {
    fs::remove_all(dir_ / "again");
    make_store(dir_ / "m", dir_ / "again", options);
    harm();
    make_store(dir_ / "m", dir_ / "again", kSmallFiles);
    EXPECT_TRUE(contents_below(dir_ / "again") == whole_);
  }
}

TEST_F(StoreFaults, AnotherSourceOrPlanBeginsAnew) {
  testing::StoreOptions options = kSmallFiles;
  options.stop_after = 3;
  make_store(dir_ / "m", dir_ / "again", options);
  // The same header, other values: only size and time tell.
  std::string bytes = dir_.read("m/model.safetensors");
  bytes.back() ^= 1;
  dir_.write("m/model.safetensors", bytes);
  make_store(dir_ / "m", dir_ / "again", kSmallFiles);
  EXPECT_EQ(BaseStore(dir_ / "again").digest(), HfDirectory(dir_ / "m").digest());
  BaseStore(dir_ / "again").verify();
  make_store(dir_ / "m", dir_ / "other", options);
  make_store(dir_ / "m", dir_ / "other");
  EXPECT_EQ(BaseStore(dir_ / "other").manifest().data_files.size(), 1u);
}

TEST_F(StoreFaults, TheWayBackGoesOnToo) {
  const BaseStore store(dir_ / "store");
  {
    ResumableDirectory directory(dir_ / "back", restore_fingerprint(store), false);
    restore_shard(store, 0, directory.paths(), 1);
  }
  const fs::path shard = dir_ / ".staging-back.convert/content/model.safetensors";
  const auto made = fs::last_write_time(shard);
  restore_store(dir_ / "store", dir_ / "back");
  EXPECT_EQ(fs::last_write_time(dir_ / "back/model.safetensors"), made);
  EXPECT_TRUE(contents_below(dir_ / "back") == contents_below(dir_ / "m"));
}

// ---- damage

TEST_F(StoreFaults, EveryFlippedByteOfEveryFileIsNoticed) {
  for (const auto& [name, content] : whole_) {
    // The data files hold nothing but what every stride finds: rows and what lies between.
    const size_t stride = name.ends_with(".h5") ? 997 : name.ends_with(".json") ? 1 : 3;
    for (size_t at = 0; at < content.size(); at += stride) {
      std::string bytes = content;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
      dir_.write("store/" + name, bytes);
      EXPECT_THROW(BaseStore(dir_ / "store").verify(1), Error) << name << " at " << at;
    }
    dir_.write("store/" + name, content);
  }
  BaseStore(dir_ / "store").verify();
}

TEST_F(StoreFaults, RotIsFoundOnUseAndNamesFileTensorAndBlock) {
  StoreIndex index = decode_store_index(whole_.at("b00001.idx"), "x");
  const StoreTile& tile = index.tiles.back();
  ASSERT_EQ(index.tensors[tile.tensor].name, "two");
  std::string bytes = whole_.at("b00001.h5");
  bytes[static_cast<size_t>(tile.offset + 5)] ^= 1;
  corrupt("b00001.h5", bytes);
  const BaseStore store(dir_ / "bad");
  const StoredTensor two = *store.find("two");
  std::vector<std::byte> all(static_cast<size_t>(two.entry->num_bytes()));
  expect_error(ErrorCode::kCorrupted,
               {"b00001.h5", "`two`", fmt::format("block at byte {} of", tile.begin)},
               [&] { two.file->read(*two.entry, 0, all); });
  // What is not touched is still good.
  two.file->read(*two.entry, 0, std::span(all).first(static_cast<size_t>(tile.begin)));
  expect_error(ErrorCode::kCorrupted, {"`two`"},
               [&] { restore_store(dir_ / "bad", dir_ / "back"); });
}

TEST_F(StoreFaults, TruncatedMissingAndLinkedFilesAreNamed) {
  for (const auto& [name, content] : whole_) {
    const bool manifest = name == "MANIFEST.json";
    for (const size_t size : {size_t{0}, size_t{1}, content.size() / 2, content.size() - 1}) {
      corrupt(name, content.substr(0, size));
      expect_refused(manifest ? ErrorCode::kBadManifest : ErrorCode::kWrongFileSize, {name});
      if (content.size() < 4) break;
    }
    corrupt(name, content + "x");
    expect_refused(manifest ? ErrorCode::kBadManifest : ErrorCode::kWrongFileSize, {name});
    fs::remove(dir_ / "bad" / name);
    expect_refused(manifest ? ErrorCode::kIncomplete : ErrorCode::kWrongFileSize, {name});
    EXPECT_TRUE(is_base_store(dir_ / "bad"));
    if (manifest) continue;
    fs::create_symlink(dir_ / "store" / name, dir_ / "bad" / name);
    expect_refused(ErrorCode::kWrongFileSize, {name});
  }
}

TEST_F(StoreFaults, ManifestsThatLieAreNamed) {
  const auto refuses = [&](ErrorCode code, const std::vector<std::string>& words,
                           const std::function<void(json&)>& edit) {
    corrupt_nothing();
    change_manifest(edit);
    expect_refused(code, words);
  };
  refuses(ErrorCode::kUnknownVersion, {"version 2"}, [](json& m) { m["format_version"] = 2; });
  refuses(ErrorCode::kBadManifest, {"format"},
          [](json& m) { m["format"] = "sutor.partial_checkpoint"; });
  for (const char* key : {"weights", "tensors", "data_bytes", "shards", "data_files", "other_files",
                          "max_file_bytes", "provenance"}) {
    refuses(ErrorCode::kBadManifest, {key, "missing"}, [&](json& m) { m.erase(key); });
  }
  refuses(ErrorCode::kBadManifest, {"tensors", "type"}, [](json& m) { m["tensors"] = -4; });
  refuses(ErrorCode::kBadManifest, {"tensors", "type"},
          [](json& m) { m["tensors"] = ~uint64_t{0}; });
  refuses(ErrorCode::kBadManifest, {"tensors", "type"}, [](json& m) { m["tensors"] = 4.0; });
  refuses(ErrorCode::kBadManifest, {"data_files", "list"},
          [](json& m) { m["data_files"] = json::object(); });
  refuses(ErrorCode::kBadManifest, {"data_files", "no object"},
          [](json& m) { m["data_files"][0] = 7; });
  refuses(ErrorCode::kBadManifest, {"no config.json"},
          [](json& m) { m["other_files"] = json::array(); });
  for (const std::string& path :
       {std::string("../m/config.json"), std::string("/etc/hostname"), std::string("a/../../x"),
        std::string("a//b"), std::string(), std::string("./x"), std::string("a/."),
        std::string(".."), std::string("zz/"), std::string("zz\0b", 4)}) {
    refuses(ErrorCode::kBadManifest, {"no name of a file below the store"}, [&](json& m) {
      m["other_files"].push_back({{"path", path}, {"bytes", 1}, {"digest", xxh3("").text()}});
    });
  }
  refuses(ErrorCode::kBadManifest, {"twice"},
          [](json& m) { m["other_files"].push_back(m["other_files"].back()); });
  for (const char* name : {"../model.safetensors", "a/b", "", ".."}) {
    refuses(ErrorCode::kBadManifest, {"no name of a file"},
            [&](json& m) { m["shards"][0]["name"] = name; });
  }
  refuses(ErrorCode::kBadManifest, {"twice"},
          [](json& m) { m["shards"].push_back(m["shards"][0]); });
  refuses(ErrorCode::kBadTileIndex, {"weights"},
          [](json& m) { m["weights"] = xxh3("other").text(); });
  refuses(ErrorCode::kBadDigest, {"digest"}, [](json& m) { m["weights"] = "xxh3:1"; });
  refuses(ErrorCode::kBadCoverage, {"4 tensors", "says 5"}, [](json& m) { m["tensors"] = 5; });
  refuses(ErrorCode::kWrongFileSize, {"missing"},
          [](json& m) { m["data_files"].push_back(m["data_files"][0]); });
  refuses(ErrorCode::kBadCoverage, {"in no tile"},
          [](json& m) { m["data_files"].erase(m["data_files"].size() - 1); });
  refuses(ErrorCode::kBrokenFile, {"model.safetensors"},
          [](json& m) { m["shards"][0]["bytes"] = 1000; });
  refuses(ErrorCode::kBrokenFile, {"follow"}, [](json& m) { m["shards"][0]["bytes"] = INT64_MAX; });
  refuses(ErrorCode::kBadTileIndex, {"b00000.idx", "not the one in the manifest"},
          [](json& m) { m["data_files"][0]["index_digest"] = xxh3("other").text(); });
  corrupt("MANIFEST.json", whole_.at("MANIFEST.json") + " ");
  expect_refused(ErrorCode::kBadManifest, {"digest does not fit"});
  for (const std::string& text : {std::string("[]"), std::string(100'000, '['), std::string("{}\n"),
                                  std::string("{\"digest\": \"\",\n}")}) {
    corrupt("MANIFEST.json", text);
    expect_refused(ErrorCode::kBadManifest, {"MANIFEST.json"});
  }
}

TEST_F(StoreFaults, IndicesThatLieAreNamed) {
  const auto refuses = [&](ErrorCode code, const std::vector<std::string>& words,
                           const std::function<void(StoreIndex&)>& edit) {
    change_index("b00000.idx", edit);
    expect_refused(code, words);
  };
  refuses(ErrorCode::kBadCoverage, {"`one`", "in no tile"},
          [](StoreIndex& index) { index.tiles.erase(index.tiles.begin()); });
  refuses(ErrorCode::kBadTileIndex, {"share"},
          [](StoreIndex& index) { index.tiles.push_back(index.tiles[0]); });
  refuses(ErrorCode::kBadCoverage, {"`one`", "in two tiles"}, [](StoreIndex& index) {
    StoreTile again = index.tiles[0];  // elsewhere in the file, where other bytes are
    again.offset = 0;
    again.bytes = 8;
    again.crcs = {0};
    index.tiles.push_back(again);
  });
  refuses(ErrorCode::kBadTileIndex, {"`one`", "does not have"},
          [](StoreIndex& index) { index.tiles[0].begin = 1; });
  refuses(ErrorCode::kBadTileIndex, {"`one`", "does not have"},
          [](StoreIndex& index) { index.tiles[0].begin = -1; });
  refuses(ErrorCode::kBadTileIndex, {"beyond the end"},
          [](StoreIndex& index) { index.tiles[0].offset = INT64_MAX; });
  refuses(ErrorCode::kBadTileIndex, {"beyond the end"},
          [](StoreIndex& index) { index.tiles[0].offset = -8; });
  refuses(ErrorCode::kBadTileIndex, {"not listed"},
          [](StoreIndex& index) { index.tiles[0].tensor = 77; });
  refuses(ErrorCode::kBadTileIndex, {"b00000.idx"},
          [](StoreIndex& index) { index.tiles[0].crcs.clear(); });
  refuses(ErrorCode::kBadTileIndex, {"impossible"},
          [](StoreIndex& index) { index.tensors[0].bytes = -1; });
  refuses(ErrorCode::kBadTileIndex, {"impossible"},
          [](StoreIndex& index) { index.tensors[0].block_bytes = 0; });
  refuses(ErrorCode::kBadTileIndex, {"impossible"},
          [](StoreIndex& index) { index.tensors[0].block_bytes = 1 << 30; });
  refuses(ErrorCode::kBadCoverage, {"`one`", "[41, 50]"},
          [](StoreIndex& index) { index.tensors[0].shape[0] = 41; });
  refuses(ErrorCode::kBadCoverage, {"`ghost`"},
          [](StoreIndex& index) { index.tensors[0].name = "ghost"; });
  refuses(ErrorCode::kBadCoverage, {"`one`", "BF16"},
          [](StoreIndex& index) { index.tensors[0].dtype = "BF16"; });
  refuses(ErrorCode::kBadCoverage, {"`one`", "twice"},
          [](StoreIndex& index) { index.tensors.push_back(index.tensors[0]); });
  refuses(ErrorCode::kBadCoverage, {"digest of tensor `one`"},
          [](StoreIndex& index) { index.tensors[0].digest.reset(); });
  refuses(ErrorCode::kBadTileIndex, {"weights"},
          [](StoreIndex& index) { index.tensors[0].digest = xxh3("other"); });
  refuses(ErrorCode::kBadTileIndex, {"data file"},
          [](StoreIndex& index) { index.file_bytes += 1; });
  change_index("b00001.idx",
               [](StoreIndex& index) { index.tiles.at(1).offset = index.tiles.at(0).offset + 1; });
  expect_refused(ErrorCode::kBadTileIndex, {"share"});
}

TEST_F(StoreFaults, IndicesOfNonsenseAskForNoMemory) {
  const std::string good = whole_.at("b00000.idx");
  const auto with_digest = [](std::string bytes) {
    const Digest digest = xxh3(bytes);
    for (const uint64_t half : {digest.high, digest.low}) {
      bytes.append(reinterpret_cast<const char*>(&half), sizeof half);
    }
    return bytes;
  };
  const std::string body = good.substr(0, good.size() - 16);
  for (size_t at = 8; at < 32; ++at) {  // version, counts, size of the data file
    std::string bytes = body;
    bytes[at] = '\xff';
    corrupt("b00000.idx", with_digest(bytes), true);
    expect_refused(ErrorCode::kBadTileIndex, {"b00000.idx"});
  }
  for (size_t size = 0; size < body.size(); size += 7) {
    corrupt("b00000.idx", with_digest(body.substr(0, size)), true);
    expect_refused(ErrorCode::kBadTileIndex, {"b00000.idx"});
  }
  corrupt("b00000.idx", with_digest(body + "more"), true);
  expect_refused(ErrorCode::kBadTileIndex, {"follow"});
}

TEST_F(StoreFaults, HeadersThatLieAreNamed) {
  std::string header = whole_.at("headers/00000.bin");
  header[header.find("F32")] = 'X';
  corrupt("headers/00000.bin", header);
  expect_refused(ErrorCode::kCorrupted, {"headers/00000.bin"});
  corrupt("headers/00000.bin", header, true);
  expect_refused(ErrorCode::kBrokenFile, {"unknown dtype"});
  header = whole_.at("headers/00000.bin");
  header.replace(header.find("three"), 5, "eerht");
  corrupt("headers/00000.bin", header, true);
  expect_refused(ErrorCode::kBadCoverage, {"`three`", "no header"});
  corrupt("headers/00000.bin", whole_.at("headers/00000.bin") + "x", true);
  expect_refused(ErrorCode::kCorrupted, {"header ends at"});
}

TEST_F(StoreFaults, AChangedConfigIsNoticedAtOnceAndOtherFilesWhenTheyAreUsed) {
  std::string text = whole_.at("files/config.json");
  text[2] = 'M';
  corrupt("files/config.json", text);
  expect_refused(ErrorCode::kCorrupted, {"config.json"});
  corrupt("files/a/b.txt", "tixt");
  expect_error(ErrorCode::kCorrupted, {"b.txt"}, [&] { BaseStore(dir_ / "bad").verify(); });
  expect_error(ErrorCode::kCorrupted, {"b.txt"},
               [&] { restore_store(dir_ / "bad", dir_ / "back"); });
}

}  // namespace
}  // namespace sutor
