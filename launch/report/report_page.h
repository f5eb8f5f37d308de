// report.html: the page of a run, drawn by the Python step tools/report.py from its files and from
// run_facts().
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "launch/log/run_paths.h"

namespace sutor {

inline constexpr const char* kReportFile = "report.html";

// Draws the run in this folder as one HTML file that needs no network. `receipt`: of
// make_receipt(). One process. Throws E0220 when something else stands at `out`, and what the
// Python step throws.
// `samples`: how many completions of each set that `sutor eval` generated for are shown.
void draw_report(const RunPaths& paths, const std::filesystem::path& out,
                 const nlohmann::ordered_json& receipt, int samples = 3);
// Throws E0349 when the folder holds no run.
void require_run(const RunPaths& paths);

// At the end of a run: receipt.json and report.html, and a line that names them. What fails is a
// warning: the run has ended well. For the process that holds the folder's lock.
void leave_report(const RunPaths& paths);
// Whether both are there.
bool has_report(const RunPaths& paths);

}  // namespace sutor
