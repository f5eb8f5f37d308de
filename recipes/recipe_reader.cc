// From flat recipe keys to a Recipe, with the checks that need more than one key.
#include "recipes/recipe_reader.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "csrc/base/error.h"
#include "recipes/data_sets.h"
#include "recipes/eval_metrics.h"
#include "recipes/recipe_schema.h"
#include "recipes/recipe_values.h"
#include "recipes/recipe_yaml.h"

namespace sutor {
namespace {

void fill_source(const std::string& name, const SourceKey& source, const RecipeValue& value,
                 Recipe& recipe) {
  std::vector<DataSource>& list =
      source.list == "data.train" ? recipe.data.train : recipe.data.eval;
  if (list.size() <= source.index) list.resize(source.index + 1);
  const std::string expected = read_source_key(source.key, value.node, list[source.index]);
  if (!expected.empty()) {
    fail(ErrorCode::kBadValue, "{}: `{}`: expected {}, got {}", value.where, name, expected,
         describe(value.node));
  }
}

void fill(const RecipeValues& values, Recipe& recipe) {
  for (const auto& [name, value] : values) {
    recipe.origins[name] = value.where;
    if (const std::optional<SourceKey> source = parse_source_key(name)) {
      fill_source(name, *source, value, recipe);
      continue;
    }
    const Field& field = *find_field(name);
    const std::string expected = field.read(value.node, recipe);
    if (!expected.empty()) {
      fail(ErrorCode::kBadValue, "{}: `{}`: expected {}, got {}", value.where, name, expected,
           describe(value.node));
    }
  }
}

// A file is named after it, with some letters before and behind.
constexpr size_t kMaxSourceName = 200;

bool is_safe_name(const std::string& name) {
  const auto is_safe = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxSourceName && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), is_safe);
}

// Names unnamed sources, and checks names and paths.
void name_sources(Recipe& recipe) {
  std::set<std::string> names;
  for (const char* list : {"train", "eval"}) {
    auto& sources = std::string_view(list) == "train" ? recipe.data.train : recipe.data.eval;
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string item = fmt::format("data.{}[{}]", list, i);
      DataSource& source = sources[i];
      if (source.share && source.path.empty()) {
        if (source.name.empty()) source.name = "held-out";
      } else if (source.path.empty()) {
        fail(ErrorCode::kMissingKey, "{}: `{}.path` is required", place_of(recipe, item + ".name"),
             item);
      }
      if (source.name.empty()) {
        source.name = default_set_name(source.path);
      }
      if (!is_safe_name(source.name)) {
        fail(ErrorCode::kBadValue,
             "{}: `{}.name`: expected letters, digits, `_`, `.` and `-` (a file is named after "
             "it), at most 200, got `{}`",
             place_of(recipe, item + (recipe.origins.count(item + ".name") ? ".name" : ".path")),
             item, source.name);
      }
      if (!names.insert(source.name).second) {
        fail(ErrorCode::kBadValue, "{}: two data sets are called `{}`; give one another `name`",
             place_of(recipe, item + ".path"), source.name);
      }
    }
  }
}

void check_order(const Recipe& recipe) {
  std::vector<std::string> axes;
  size_t begin = 0;
  const std::string& order = recipe.parallel.order;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = order.find('-', begin);
    axes.push_back(order.substr(begin, end == std::string::npos ? end : end - begin));
  }
  std::sort(axes.begin(), axes.end());
  if (axes != std::vector<std::string>{"cp", "dp", "ep", "pp", "tp"}) {
    fail(ErrorCode::kBadValue,
         "{}: `parallel.order`: expected tp, cp, ep, dp and pp in some order, joined by `-`, got "
         "`{}`",
         place_of(recipe, "parallel.order"), order);
  }
}

void check_select(const Recipe& recipe) {
  const SelectOptions& select = recipe.esft.select;
  const std::string where = place_of(recipe, "esft.select.method");
  if (recipe.esft.config) return;
  if (select.method == "top_n" && !select.n) {
    fail(ErrorCode::kMissingKey,
         "{}: `esft.select.n` (experts a layer) is required for method top_n", where);
  }
  if (select.method == "budget" && !select.budget) {
    fail(ErrorCode::kMissingKey,
         "{}: `esft.select.budget` (share of all routed experts) is required for method budget",
         where);
  }
}

void check_eval(const Recipe& recipe) {
  for (const DataSource& source : recipe.data.eval) {
    if (source.format != "store" || !source.scorer) continue;
    fail(ErrorCode::kMissingKey,
         "{}: the evaluation set `{}` has a scorer, which needs rows with prompts and answers: "
         "give their file instead of a token store",
         recipe.file, source.name);
  }
  check_deciding_metrics(recipe);
}

void check_schedule(const Recipe& recipe) {
  const double min_lr = parse_min_lr(recipe.schedule.min_lr, recipe.optim.lr);
  if (min_lr <= recipe.optim.lr) return;
  fail(ErrorCode::kBadValue,
       "{}: `schedule.min_lr`: expected at most optim.lr, which is {}, got `{}`: the rate would "
       "rise to the end",
       place_of(recipe, "schedule.min_lr"), recipe.optim.lr, recipe.schedule.min_lr);
}

void check_wandb(const Recipe& recipe) {
  if (recipe.log.wandb.project) return;
  for (const char* key : {"entity", "name", "mode", "tags"}) {
    const std::string full = fmt::format("log.wandb.{}", key);
    if (recipe.origins.count(full) == 0 || recipe.origins.count("log.wandb.project") > 0) continue;
    fail(ErrorCode::kMissingKey,
         "{}: `{}` is given, but `log.wandb.project` is not, without which nothing is logged to "
         "Weights & Biases. Name a project, or leave `log.wandb` out",
         place_of(recipe, full), full);
  }
}

void check_required(const Recipe& recipe) {
  for (const auto& [key, value] :
       {std::pair{"model.path", &recipe.model.path}, std::pair{"output", &recipe.output}}) {
    if (value->empty()) fail(ErrorCode::kMissingKey, "{}: `{}` is required", recipe.file, key);
  }
}

// One "key: value  # origin" line.
std::string commented(const Recipe& recipe, const std::string& indent, const std::string& name,
                      const std::string& value, const std::string& key) {
  const auto origin = recipe.origins.find(key);
  const std::string line = fmt::format("{}{}: {}", indent, name, value);
  return fmt::format("{:<44}  # {}\n", line,
                     origin == recipe.origins.end() ? "default" : origin->second);
}

std::string show_source_key(const DataSource& source, const std::string& key) {
  if (key == "scorer") return values::show_value(source.scorer);
  if (key == "weight") return values::show_value(source.weight);
  if (key == "epochs") return values::show_value(source.epochs);
  if (key == "share") return values::show_value(source.share);
  if (key == "columns") {
    std::vector<std::string> columns;
    for (const auto& [name, column] : source.columns) {
      columns.push_back(fmt::format("{}: {}", quoted(name), values::show_value(column)));
    }
    return fmt::format("{{{}}}", fmt::join(columns, ", "));
  }
  return quoted(key == "path" ? source.path : key == "name" ? source.name : source.format);
}

std::string source_list_yaml(const Recipe& recipe, const char* list,
                             const std::vector<DataSource>& expanded) {
  const std::vector<DataSource> sources = as_written(expanded);
  if (sources.empty()) return commented(recipe, "  ", list, "[]", fmt::format("data.{}", list));
  std::string text = fmt::format("  {}:\n", list);
  for (size_t i = 0; i < sources.size(); ++i) {
    std::string indent = "    - ";
    for (const std::string& key : source_keys(fmt::format("data.{}", list))) {
      if (key == "path" && sources[i].path.empty()) continue;
      if (key == "columns" && sources[i].columns.empty()) continue;
      text += commented(recipe, indent, key, show_source_key(sources[i], key),
                        fmt::format("data.{}[{}].{}", list, i, key));
      indent = "      ";
    }
  }
  return text;
}

double parse_figure(std::string_view text, std::string_view key) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0)) {
    fail(ErrorCode::kBadValue, "`{}`: expected a number of at least 0 or a share like 3%, got `{}`",
         key, text);
  }
  return value;
}

Recipe recipe_from(const RecipeValues& values, const std::string& file) {
  Recipe recipe;
  recipe.file = file;
  fill(values, recipe);
  check_required(recipe);
  name_sources(recipe);
  check_mix(recipe);
  hold_out_rows(recipe);
  check_order(recipe);
  check_select(recipe);
  check_eval(recipe);
  check_schedule(recipe);
  check_wandb(recipe);
  return recipe;
}

// A name without an extension, signs of globs, and what is left around these.
std::string set_name_of(const std::filesystem::path& name) {
  std::filesystem::path stem = name;
  for (const char* packed : {".gz", ".zst", ".zstd"}) {
    if (stem.extension() == packed) stem = stem.stem();
  }
  std::string text;
  bool in_brackets = false;
  for (const char c : stem.stem().string()) {
    in_brackets = (in_brackets && c != ']') || c == '[';
    if (!in_brackets && std::string_view("*?]").find(c) == std::string_view::npos) text += c;
  }
  if (text.size() == stem.stem().string().size()) return text;
  const size_t begin = text.find_first_not_of("-_."), end = text.find_last_not_of("-_.");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

}  // namespace

std::string place_of(const Recipe& recipe, const std::string& key) {
  const auto origin = recipe.origins.find(key);
  return origin == recipe.origins.end() ? recipe.file : origin->second;
}

std::string default_set_name(const std::string& path) {
  for (std::filesystem::path at = path; !at.empty(); at = at.parent_path()) {
    const std::string name = set_name_of(at.filename());
    if (!name.empty()) return name;
    if (at == at.parent_path()) break;
  }
  return "";
}

Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& sets) {
  return recipe_from(read_recipe_values(path, sets), path.string());
}

Recipe recipe_of_sets(const std::vector<std::string>& sets) {
  return recipe_from(recipe_values_of(sets), "the command line");
}

void require_train_data(const Recipe& recipe) {
  if (recipe.data.train.empty()) {
    fail(ErrorCode::kMissingKey, "{}: `data.train` is required: a list like [{{path: rows.jsonl}}]",
         recipe.file);
  }
}

void require_optimizer_dtype(const Recipe& recipe) {
  for (const auto& [name, dtype] : kOptimizerNames) {
    if (name != recipe.optim.name || dtype.empty() || dtype == recipe.model.dtype) continue;
    fail(ErrorCode::kNoOptimizerForDType,
         "{}: optimizer `{}` trains weights of {} alone, but model.dtype is {}. Set `model.dtype: "
         "{}`, or `optim.name: adamw`.",
         place_of(recipe, "optim.name"), name, dtype, recipe.model.dtype, dtype);
  }
}

std::string resolved_yaml(const Recipe& given) {
  Recipe recipe = given;
  std::string text;
  std::vector<std::string> open;  // sections that the lines so far are in
  for (const Field& field : recipe_fields()) {
    std::vector<std::string> sections;
    size_t begin = 0;
    for (size_t dot; (dot = field.key.find('.', begin)) != std::string::npos; begin = dot + 1) {
      sections.push_back(field.key.substr(begin, dot - begin));
    }
    for (size_t depth = 0; depth < sections.size(); ++depth) {
      if (depth < open.size() && open[depth] == sections[depth]) continue;
      open.resize(depth);
      open.push_back(sections[depth]);
      text += fmt::format("{:{}}{}:\n", "", 2 * depth, sections[depth]);
      if (sections[depth] == "data" && depth == 0) {
        text += source_list_yaml(recipe, "train", recipe.data.train);
        text += source_list_yaml(recipe, "eval", recipe.data.eval);
      }
    }
    open.resize(sections.size());
    text += commented(recipe, std::string(2 * sections.size(), ' '), field.key.substr(begin),
                      field.show(recipe), field.key);
  }
  return text;
}

int64_t parse_warmup(std::string_view text, int64_t steps) {
  if (!text.ends_with('%')) return static_cast<int64_t>(parse_figure(text, "schedule.warmup"));
  const double percent = parse_figure(text.substr(0, text.size() - 1), "schedule.warmup");
  // The small term makes 7% of 100 be 7, although 0.07 * 100 is a little more in binary.
  return static_cast<int64_t>(std::ceil(percent * static_cast<double>(steps) / 100 - 1e-9));
}

double parse_min_lr(std::string_view text, double lr) {
  if (!text.ends_with('%')) return parse_figure(text, "schedule.min_lr");
  return parse_figure(text.substr(0, text.size() - 1), "schedule.min_lr") / 100 * lr;
}

}  // namespace sutor
