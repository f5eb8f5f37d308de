#include "launch/data/token_stores.h"

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/log/run_paths.h"
#include "recipes/recipe_reader.h"

namespace sutor {

std::string data_set_name(const DataSource& source) {
  return source.name.empty() ? default_set_name(source.path) : source.name;
}

std::filesystem::path token_store_path(const Recipe& recipe, const DataSource& source) {
  if (source.format == "store") return source.path;
  return RunPaths(recipe.output).tokens(data_set_name(source));
}

TokenStores::TokenStores(const Recipe& recipe, int64_t vocab_size, bool train) {
  if (train) require_train_data(recipe);
  const auto open = [&](const DataSource& source) -> const TokenStore* {
    const std::filesystem::path path = token_store_path(recipe, source);
    if (!is_there(path)) {
      if (source.format == "store") {
        fail(ErrorCode::kUnreadableData,
             "{} does not exist: format store is for token stores that are there already",
             path.string());
      }
      fail(ErrorCode::kUnreadableData,
           "{} does not exist: run `sutor prepare` with this recipe first (or `sutor run`)",
           path.string());
    }
    stores_.push_back(std::make_unique<TokenStore>(path));
    stores_.back()->check_vocab(vocab_size);
    stores_.back()->check_supervised();
    return stores_.back().get();
  };
  if (train) {
    for (const DataSource& source : recipe.data.train) train_.push_back(open(source));
  }
  for (const DataSource& source : recipe.data.eval) eval_.push_back(open(source));
}

}  // namespace sutor
