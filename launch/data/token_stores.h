// The token stores of a recipe's data sets, opened and checked against the model.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "launch/data/token_store.h"
#include "recipes/recipe.h"

namespace sutor {

// The name of a data set: `name`, or the stem of its file.
std::string data_set_name(const DataSource& source);

// The token store of a set: the one that `sutor prepare` writes, or that the recipe names itself.
std::filesystem::path token_store_path(const Recipe& recipe, const DataSource& source);

class TokenStores {
 public:
  // Opens the store of every set. Throws E0331 (naming `sutor prepare`) when one is missing, E0330
  // for ids beyond the vocabulary, E0334 for a set without any target. train: false opens only the
  // evaluation sets.
  TokenStores(const Recipe& recipe, int64_t vocab_size, bool train = true);

  std::span<const TokenStore* const> train() const { return train_; }
  std::span<const TokenStore* const> eval() const { return eval_; }

 private:
  std::vector<std::unique_ptr<TokenStore>> stores_;
  std::vector<const TokenStore*> train_, eval_;
};

}  // namespace sutor
