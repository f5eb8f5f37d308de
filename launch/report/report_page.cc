#include "launch/report/report_page.h"

#include <fmt/format.h>

#include <cstdio>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/json.h"
#include "launch/job/current_error.h"
#include "launch/job/python_step.h"
#include "launch/log/run_record.h"
#include "launch/report/receipt.h"
#include "launch/report/run_facts.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kScript = "report.py";

// The facts of a large model are more than a command line takes.
class FactsFile {
 public:
  FactsFile(const fs::path& out, const nlohmann::ordered_json& facts) : path_(temporary_name(out)) {
    write_new_file(path_, dump_json(facts));
  }
  ~FactsFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  FactsFile(const FactsFile&) = delete;
  FactsFile& operator=(const FactsFile&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

void require_run(const RunPaths& paths) {
  for (const fs::path& file : {paths.metrics(), paths.scores(), paths.expert_config(),
                               paths.evaluations(), run_record_path(paths)}) {
    if (is_file(file)) return;
  }
  if (is_folder(paths.checkpoints())) return;
  fail(ErrorCode::kNoCheckpoint,
       "{} holds no run: expected metrics.jsonl, scores.h5, expert_config.json or checkpoints/. "
       "Name a recipe that was run, or its `output` folder.",
       paths.output.string());
}

void draw_report(const RunPaths& paths, const fs::path& out, const nlohmann::ordered_json& receipt,
                 int samples) {
  require_plain_file(out);
  const FactsFile facts(out, run_facts(paths, receipt));
  const nlohmann::json job = {{"facts", facts.path().string()},
                              {"metrics", paths.metrics().string()},
                              {"evaluations", paths.evaluations().string()},
                              {"plan", (paths.output / "plan.json").string()},
                              {"evaluation", paths.evaluation().string()},
                              {"samples", samples}};
  const PythonOutput page = read_python_step(kScript, job);
  if (page.exit_code != kExitOk) {
    fail(step_error(page.exit_code), "the page was not drawn, see the message above");
  }
  write_file_atomic(out, page.text);
}

void leave_report(const RunPaths& paths) {
  const fs::path page = paths.output / kReportFile;
  try {
    const nlohmann::ordered_json receipt = make_receipt(paths);
    write_receipt(paths, receipt);
    draw_report(paths, page, receipt);
    fmt::print("report   {}, {}\n", page.string(), (paths.output / kReceiptFile).string());
  } catch (const std::exception&) {
    const Error error = current_error();
    if (error.code() == ErrorCode::kStopped) throw;
    fmt::print(stderr,
               "warning: the report of the run is not complete: {}. `sutor report {}` draws it\n",
               error.what(), paths.output.string());
  }
  std::fflush(stdout);
}

bool has_report(const RunPaths& paths) {
  return is_file(paths.output / kReportFile) && is_file(paths.output / kReceiptFile);
}

}  // namespace sutor
