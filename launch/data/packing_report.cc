#include "launch/data/packing_report.h"

#include <fmt/format.h>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "launch/data/token_stores.h"
#include "launch/log/metrics_log.h"

namespace sutor {

std::string packing_text(const DataOptions& options, const PackingReport& report) {
  std::string text = fmt::format(
      "{} documents in {} {}, {} tokens ({:.1f}% in the loss)", format_count(report.documents),
      format_count(report.samples), options.packing ? "packs" : "samples",
      format_count(report.tokens),
      100.0 * static_cast<double>(report.supervised) / static_cast<double>(report.tokens));
  if (options.packing) {
    text += fmt::format("; packs of {} tokens are {:.1f}% full", format_count(options.seq_len),
                        100 * report.efficiency);
  }
  const auto add = [&](int64_t count, const char* what) {
    if (count > 0) text += fmt::format("; {} {}", format_count(count), what);
  };
  add(report.dropped, "dropped (too long)");
  add(report.truncated, "cut");
  add(report.cut_tokens, "tokens lost by that");
  add(report.first_tokens_dropped, "first tokens dropped");
  add(report.split, "split");
  add(report.unsupervised, "left out without a token in the loss");
  add(report.unsupervised_pieces, "pieces left out for the same");
  return text;
}

std::string packing_text_of(const Recipe& recipe) {
  try {
    std::vector<TokenStore> stores;
    for (const DataSource& source : recipe.data.train) {
      const std::filesystem::path path = token_store_path(recipe, source);
      if (!is_there(path)) return "";
      stores.emplace_back(path);
    }
    std::vector<const TokenStore*> all;
    for (const TokenStore& store : stores) all.push_back(&store);
    if (all.empty()) return "";
    return packing_text(recipe.data,
                        build_samples(all, recipe.data, recipe.train.seed, /*epoch=*/0).report);
  } catch (const Error&) {
    return "";
  }
}

}  // namespace sutor
