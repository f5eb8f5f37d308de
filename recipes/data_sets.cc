#include "recipes/data_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "csrc/base/error.h"
#include "recipes/recipe_reader.h"

namespace sutor {
namespace {

constexpr size_t kMaxName = 200;  // a file is named after it

// The rows of a training set that `item` holds out.
DataSource held_out_set(const DataSource& item, const DataSource& of) {
  DataSource set = of;
  set.name = fmt::format("{}-{}", of.name, item.name);
  set.scorer.reset();
  set.weight.reset();
  set.epochs.reset();
  set.share = item.share;
  set.held_out_of = of.name;
  return set;
}

void check_held_out(const Recipe& recipe, const DataSource& item, const std::string& key) {
  const auto refuse = [&](const std::string& why) {
    fail(ErrorCode::kBadValue, "{}: `{}`: {}", place_of(recipe, key), key, why);
  };
  if (!item.path.empty() || item.scorer || item.format != "auto") {
    refuse("a share is of the rows of data.train: it stands without path, format and scorer");
  }
  if (recipe.data.train.empty()) refuse("there is no data.train whose rows could be held out");
  for (const DataSource& train : recipe.data.train) {
    if (train.format != "store") continue;
    refuse(
        fmt::format("`{}` is a token store, whose rows are not there any more. Give its rows in "
                    "data.train, or name a set of its own in data.eval",
                    train.name));
  }
}

void check_names(const Recipe& recipe) {
  std::set<std::string> names;
  for (const auto* list : {&recipe.data.train, &recipe.data.eval}) {
    for (const DataSource& source : *list) {
      if (source.name.size() > kMaxName) {
        fail(ErrorCode::kBadValue,
             "{}: `{}` is named after its training set and has more than {} letters; give that a "
             "shorter `name`",
             recipe.file, source.name, kMaxName);
      }
      if (names.insert(source.name).second) continue;
      fail(ErrorCode::kBadValue,
           "{}: two data sets are called `{}`, one of them for the rows held out of a training "
           "set; give one another `name`",
           recipe.file, source.name);
    }
  }
}

}  // namespace

bool is_mixed(const std::vector<DataSource>& train) {
  return std::any_of(train.begin(), train.end(), [](const DataSource& source) {
    return source.weight || source.epochs.value_or(1) != 1;
  });
}

std::string mix_text(const std::vector<DataSource>& train) {
  std::string text;
  for (const DataSource& source : train) {
    text += text.empty() ? source.name : ", " + source.name;
    if (source.weight) {
      text += fmt::format(" weight {}", *source.weight);
    } else if (source.epochs.value_or(1) != 1) {
      text += fmt::format(" epochs {}", *source.epochs);
    } else {
      text += " once";
    }
  }
  return text;
}

void check_mix(Recipe& recipe) {
  std::vector<DataSource>& train = recipe.data.train;
  const auto has_weight = [](const DataSource& source) { return source.weight.has_value(); };
  if (std::none_of(train.begin(), train.end(), has_weight)) return;
  for (size_t i = 0; i < train.size(); ++i) {
    if (!train[i].weight && !train[i].epochs) train[i].weight = 1;
    if (!train[i].weight || !train[i].epochs) continue;
    const std::string key = fmt::format("data.train[{}].weight", i);
    fail(ErrorCode::kBadValue,
         "{}: `{}`: `{}` has epochs as well; either alone says how much of it an epoch holds",
         place_of(recipe, key), key, train[i].name);
  }
  if (train.size() == 1 || std::count_if(train.begin(), train.end(), has_weight) > 1) return;
  const auto only = std::find_if(train.begin(), train.end(), has_weight);
  const std::string key = fmt::format("data.train[{}].weight", only - train.begin());
  fail(ErrorCode::kBadValue,
       "{}: `{}`: sets with weights share out their documents among themselves, and `{}` is the "
       "only one, as all others have epochs. Give another one a weight, or give this one epochs",
       place_of(recipe, key), key, only->name);
}

void hold_out_rows(Recipe& recipe) {
  std::vector<DataSource> sets;
  std::string first;  // where an item holds rows out
  for (size_t i = 0; i < recipe.data.eval.size(); ++i) {
    const DataSource& item = recipe.data.eval[i];
    if (!item.share) {
      sets.push_back(item);
      continue;
    }
    const std::string key = fmt::format("data.eval[{}].share", i);
    check_held_out(recipe, item, key);
    if (!first.empty()) {
      fail(ErrorCode::kBadValue, "{}: `{}`: rows are held out already, at {}",
           place_of(recipe, key), key, first);
    }
    first = place_of(recipe, key);
    for (DataSource& train : recipe.data.train) {
      sets.push_back(held_out_set(item, train));
      train.share = item.share;
    }
  }
  if (first.empty()) return;
  recipe.data.eval = std::move(sets);
  check_names(recipe);
}

std::string held_out_together(const Recipe& recipe) {
  if (recipe.data.train.size() < 2) return "";
  for (const DataSource& item : as_written(recipe.data.eval)) {
    if (item.share) return item.name;
  }
  return "";
}

std::vector<DataSource> as_written(const std::vector<DataSource>& sets) {
  std::vector<DataSource> items;
  bool held_out = false;  // the item is there
  for (const DataSource& set : sets) {
    if (set.held_out_of.empty()) {
      items.push_back(set);
    } else if (!held_out) {
      DataSource& item = items.emplace_back();
      item.name = set.name.substr(set.held_out_of.size() + 1);
      item.share = set.share;
      held_out = true;
    }
  }
  return items;
}

}  // namespace sutor
