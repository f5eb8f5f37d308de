// Every key has a meaning, and the reference says the schema's types and defaults.
#include "recipes/key_meanings.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "recipes/recipe_schema.h"

namespace sutor {
namespace {

std::set<std::string> keys_of_the_schema() {
  std::set<std::string> keys;
  for (const Field& field : recipe_fields()) keys.insert(field.key);
  for (const char* list : {"data.train", "data.eval"}) {
    for (const std::string& key : source_keys(list)) keys.insert(std::string(list) + "[]." + key);
  }
  return keys;
}

std::map<std::string, KeyReference> reference() {
  std::map<std::string, KeyReference> found;
  for (const KeyReference& entry : key_reference()) found[entry.key] = entry;
  return found;
}

TEST(KeyMeanings, EveryKeyHasOneAndNothingElseHas) {
  std::set<std::string> keys;
  for (const KeyMeaning& meaning : key_meanings()) {
    EXPECT_TRUE(keys.insert(std::string(meaning.key)).second) << meaning.key << " stands twice";
    EXPECT_GE(meaning.meaning.size(), 10u) << meaning.key;
  }
  for (const std::string& key : keys_of_the_schema()) {
    EXPECT_TRUE(keys.count(key)) << key << " needs a line in recipes/key_meanings.cc";
  }
  for (const std::string& key : keys) {
    EXPECT_TRUE(keys_of_the_schema().count(key)) << key << " is no key (any more)";
  }
}

TEST(KeyMeanings, AreInTheOrderOfTheSchema) {
  std::vector<std::string> fields, meanings;
  for (const Field& field : recipe_fields()) fields.push_back(field.key);
  for (const KeyMeaning& meaning : key_meanings()) {
    if (find_field(meaning.key)) meanings.emplace_back(meaning.key);
  }
  EXPECT_EQ(meanings, fields);
}

TEST(KeyReference, SaysTheTypesThatTheReadersExpect) {
  auto keys = reference();
  EXPECT_EQ(keys["parallel.ep"].type, "a whole number of at least 1");
  EXPECT_EQ(keys["train.method"].type, "one of esft, full, lora");
  EXPECT_EQ(keys["data.packing"].type, "true, false or authors");
  EXPECT_EQ(keys["esft.config"].type, "text, or null");
  EXPECT_EQ(keys["schedule.steps"].type, "a whole number of at least 1, or null");
  EXPECT_EQ(keys["data.eval[].share"].type,
            "a share above 0 and below 1, such as 5% or 0.05, or null");
  for (const auto& [key, entry] : keys) EXPECT_FALSE(entry.type.empty()) << key;
}

TEST(KeyReference, SaysTheDefaults) {
  auto keys = reference();
  EXPECT_EQ(keys["optim.lr"].value, "1e-05");
  EXPECT_EQ(keys["model.path"].value, "required");
  EXPECT_EQ(keys["output"].value, "required");
  EXPECT_EQ(keys["optim.betas"].value, "[0.9, 0.95]");
  EXPECT_EQ(keys["data.train[].format"].value, "auto");
}

}  // namespace
}  // namespace sutor
