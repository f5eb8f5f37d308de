// JSON lines that survive a resume, and the lines of the console.
#include "launch/log/metrics_log.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string_view>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"

namespace sutor {
namespace {

using Json = nlohmann::ordered_json;  // keys stay in the order in which people read them

// The share of a step from which on the console says what getting its data takes.
constexpr double kDataShown = 0.05;

constexpr int64_t kMaxLogBytes = int64_t{8} << 30;

// Keeps the complete lines of steps up to `last_step` and opens the file to append.
AppendFile reopen(const std::filesystem::path& path, int64_t last_step) {
  std::error_code error;
  const auto status = std::filesystem::symlink_status(path, error);
  if (std::filesystem::exists(status)) {
    std::string kept;
    const std::string content = last_step > 0 ? read_file(path, kMaxLogBytes) : "";
    for (size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      const std::string line = content.substr(begin, end - begin);
      const Json row = Json::parse(line, nullptr, false);
      if (row.is_object() && row.contains("step") && row["step"].is_number_integer() &&
          row["step"].get<int64_t>() <= last_step) {
        kept += line + "\n";
      }
    }
    if (last_step == 0 || kept != content) write_file_atomic(path, kept);
  }
  return AppendFile(path);
}

// "2026-11-28T05:17:21.042Z"
std::string now_text() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const auto seconds = static_cast<std::time_t>(millis / 1000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  return fmt::format("{}.{:03}Z", text, millis % 1000);
}

// "law 0.7110, chat -": a set that the step has nothing of has no loss.
std::string source_losses_text(const std::vector<SourceMetrics>& sources) {
  std::string text;
  for (const SourceMetrics& source : sources) {
    text += (text.empty() ? "" : ", ") + source.name;
    text += source.supervised_tokens > 0 ? fmt::format(" {:.4f}", source.loss) : " -";
  }
  return text;
}

}  // namespace

MetricsLog::MetricsLog(const RunPaths& paths, bool tensorboard, int64_t resume_step)
    : metrics_(reopen(paths.metrics(), resume_step)),
      evaluations_(reopen(paths.evaluations(), resume_step)) {
  if (tensorboard) {
    tensorboard_ = std::make_unique<TensorboardWriter>(paths.tensorboard(), resume_step);
  }
}

void MetricsLog::keep_error(const std::function<void()>& write) {
  try {
    write();
  } catch (const Error& error) {
    if (!error_) error_ = error;
  }
}

void MetricsLog::sync() {
  keep_error([&] { metrics_.sync(); });
  keep_error([&] { evaluations_.sync(); });
}

void MetricsLog::add(const StepMetrics& metrics) {
  Json row = {{"step", metrics.step},
              {"loss", metrics.loss},
              {"grad_norm", metrics.grad_norm},
              {"lr", metrics.lr},
              {"tokens", metrics.tokens},
              {"supervised_tokens", metrics.supervised_tokens},
              {"tokens_per_s", metrics.tokens_per_s},
              {"peak_memory_bytes", metrics.peak_memory_bytes},
              {"allocated_bytes", metrics.allocated_bytes},
              {"reserved_bytes", metrics.reserved_bytes},
              {"epoch", metrics.epoch},
              {"step_seconds", metrics.step_seconds},
              {"supervised_tokens_per_s", metrics.supervised_tokens_per_s},
              {"epochs", metrics.epochs},
              {"data_seconds", metrics.data_seconds},
              {"time", now_text()}};
  if (metrics.mfu) row["mfu"] = *metrics.mfu;
  if (metrics.balance_loss) row["balance_loss"] = *metrics.balance_loss;
  for (const SourceMetrics& source : metrics.sources) {
    Json& of = row["sources"][source.name] = {{"supervised_tokens", source.supervised_tokens}};
    if (source.supervised_tokens > 0) of["loss"] = source.loss;
  }
  if (metrics.experts) row["experts"] = metrics.experts->json;
  keep_error([&] { metrics_.append(dump_json(row) + "\n"); });
  if (hear_) hear_(row);
  if (!tensorboard_) return;
  std::vector<std::pair<std::string, double>> scalars = {
      {"train/loss", metrics.loss},
      {"train/grad_norm", metrics.grad_norm},
      {"train/lr", metrics.lr},
      {"train/tokens_per_s", metrics.tokens_per_s},
      {"train/supervised_tokens_per_s", metrics.supervised_tokens_per_s},
      {"train/epochs", metrics.epochs},
      {"train/peak_memory_gib", static_cast<double>(metrics.peak_memory_bytes) / (1 << 30)}};
  if (metrics.balance_loss) scalars.emplace_back("train/balance_loss", *metrics.balance_loss);
  if (metrics.mfu) scalars.emplace_back("train/mfu", *metrics.mfu);
  for (const SourceMetrics& source : metrics.sources) {
    if (source.supervised_tokens == 0) continue;
    scalars.emplace_back("train/loss/" + source.name, source.loss);
  }
  if (metrics.experts) {
    const auto& experts = metrics.experts->scalars;
    scalars.insert(scalars.end(), experts.begin(), experts.end());
  }
  keep_error([&] { tensorboard_->add(metrics.step, scalars); });
  if (!metrics.experts || metrics.experts->picture.empty()) return;
  keep_error([&] {
    tensorboard_->add_picture(metrics.step, "experts/load", metrics.experts->picture,
                              metrics.experts->width, metrics.experts->height);
  });
}

void MetricsLog::add(const EvalMetrics& metrics) {
  Json row = {{"step", metrics.step},
              {"set", metrics.set},
              {"tokens", metrics.tokens},
              {"epoch", metrics.epoch},
              {"eval_seconds", metrics.eval_seconds},
              {"time", now_text()}};
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [name, value] : metrics.values) {
    row[name] = value;
    scalars.emplace_back("eval/" + metrics.set + "/" + name, value);
  }
  keep_error([&] { evaluations_.append(dump_json(row) + "\n"); });
  if (hear_) hear_(row);
  if (!tensorboard_ || scalars.empty()) return;
  keep_error([&] { tensorboard_->add(metrics.step, scalars); });
}

std::string step_line(const StepMetrics& metrics, int64_t total_steps, double seconds_left,
                      bool colour) {
  const std::string loss = fmt::format("loss {:.4f}", metrics.loss);
  std::string line = fmt::format("step {}/{} | epoch {:.2f} | {}", metrics.step, total_steps,
                                 metrics.epochs, colour ? "\x1b[1m" + loss + "\x1b[0m" : loss);
  if (!metrics.sources.empty()) line += " (" + source_losses_text(metrics.sources) + ")";
  if (metrics.balance_loss) line += fmt::format(" | balance {:.4f}", *metrics.balance_loss);
  if (metrics.experts) line += " | " + metrics.experts->text;
  line += fmt::format(" | grad norm {:.3g} | lr {:.3g} | {} tok/s ({} in loss)", metrics.grad_norm,
                      metrics.lr, format_count(std::llround(metrics.tokens_per_s)),
                      format_count(std::llround(metrics.supervised_tokens_per_s)));
  if (metrics.mfu) line += fmt::format(" | mfu {:.1f}%", 100 * *metrics.mfu);
  if (metrics.data_seconds > kDataShown * metrics.step_seconds) {
    line += fmt::format(" | data {:.0f}%", 100 * metrics.data_seconds / metrics.step_seconds);
  }
  return line + fmt::format(" | {} | left {}", format_bytes(metrics.peak_memory_bytes),
                            format_duration(seconds_left));
}

std::string eval_line(const EvalMetrics& metrics) {
  std::string line = fmt::format("eval {} | {}:", metrics.step, metrics.set);
  const char* separator = " ";
  for (const auto& [name, value] : metrics.values) {
    line += fmt::format("{}{} {:.4f}", separator, name, value);
    separator = ", ";
  }
  return line;
}

bool use_colour(int fd) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  return (!no_colour || !*no_colour) && isatty(fd) && terminal &&
         std::string_view(terminal) != "dumb";
}

}  // namespace sutor
