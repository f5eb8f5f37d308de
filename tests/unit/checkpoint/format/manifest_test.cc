// Manifests that lie, with right digests, are refused (E0342) with the reason.
#include "checkpoint/format/manifest.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest_json.h"
#include "csrc/base/hash.h"
#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using nlohmann::json;
using testing::expect_error;

std::string sound() {
  Manifest manifest;
  manifest.meta.step = 2;
  manifest.meta.expert_config = json::object();
  manifest.meta.provenance = json::object();
  manifest.meta.optimizer = {
      .optimizer = "adamw", .kinds = {{"master", DType::kF32}}, .values = "master"};
  manifest.files = {{.writer = 0}};
  return encode_manifest(manifest);
}

// With another content, and its digest.
std::string changed(const std::function<void(json&)>& change) {
  json body = json::parse(sound());
  body.erase("digest");
  change(body);
  return encode_manifest_json(body);
}

void expect_refused(const std::string& text, const std::string& reason) {
  expect_error(ErrorCode::kBadManifest, {reason}, [&] { decode_manifest(text, "it"); });
}

TEST(Manifest, ASoundOneIsRead) {
  EXPECT_EQ(decode_manifest(sound(), "it").meta.step, 2);
  EXPECT_EQ(decode_manifest(changed([](json&) {}), "it").meta.step, 2);
}

TEST(Manifest, NumbersThatDoNotFitAreRefused) {
  expect_refused(changed([](json& body) { body["files"][0]["writer"] = int64_t{1} << 40; }),
                 "writer");
  expect_refused(changed([](json& body) { body["files"][0]["writer"] = -1; }), "writer");
  expect_refused(changed([](json& body) { body["step"] = 1.5; }), "step");
  expect_refused(changed([](json& body) { body["tensors"] = uint64_t{1} << 63; }), "tensors");
}

TEST(Manifest, NamesThatLeadElsewhereAreRefused) {
  expect_refused(changed([](json& body) { body["state"]["name"] = "../state.h5"; }), "state.h5");
  expect_refused(changed([](json& body) { body["files"][0]["name"] = "../w0000.h5"; }), "w0000.h5");
}

TEST(Manifest, AKeyThatStandsTwiceIsRefused) {
  const std::string text = sound();
  std::string rest = text.substr(text.find('\n') + 1);
  const size_t at = rest.find("\"step\"");
  rest.insert(at, "\"step\": 1, ");
  expect_refused("{\"digest\": \"" + xxh3(rest).text() + "\",\n" + rest, "`step` stands twice");
}

}  // namespace
}  // namespace sutor
