// Reads recipes strictly: every key is known, of the right type, in range, and written once.
// Errors are E02xx and start with "file:line:col: " of the offending key or value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "recipes/recipe.h"

namespace sutor {

// Reads `path` and what it inherits (`base: other.yaml`, relative to the file), then applies `sets`
// ("esft.select.top_p=0.2", values in YAML flow style, lists as "data.train=[{path: a.jsonl}]" or
// "data.train[0].path=a.jsonl"). `${NAME}` in a value is replaced from the environment,
// `${NAME:-TEXT}` by TEXT where it is not set or empty, a leading `~/` of a path by the home
// folder. Shares may be percentages. Token counts take k (1,024) and M (1,048,576). Paths of the
// recipe are relative to the working directory. Throws
//   E0201 unknown key (nearest one named) or key of another section;  E0203 unreadable, not YAML;
//   E0205 wrong type or value;                                        E0206 required key absent;
//   E0207 key written twice;                                          E0208 `base` cycle;
//   E0209 ${NAME} not set.
Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& sets = {});

// A recipe without a file: defaults and `sets`.
Recipe recipe_of_sets(const std::vector<std::string>& sets);

// What an error in the value of `key` points to: where it was written, or the file for a default.
std::string place_of(const Recipe& recipe, const std::string& key);

// Of rows without a name: that of the file, glob or folder without its extension and the signs of
// globs ("data/train-*.parquet" is "train"), else that of the folder around it.
std::string default_set_name(const std::string& path);

// Throws E0206 when the recipe names no training data.
void require_train_data(const Recipe& recipe);

// Throws E0280 when optim.name cannot train weights of model.dtype.
void require_optimizer_dtype(const Recipe& recipe);

// The whole recipe as YAML that reads back to the same recipe, each value with its origin (default,
// file:line:col or --set) as a comment.
std::string resolved_yaml(const Recipe& recipe);

// `schedule.warmup`: a number of steps, or "3%" of `steps`, rounded up. Throws E0205.
int64_t parse_warmup(std::string_view text, int64_t steps);
// `schedule.min_lr`: a rate, or "10%" of `lr`. Throws E0205.
double parse_min_lr(std::string_view text, double lr);

}  // namespace sutor
