#include "launch/convert/rounding_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "csrc/base/error.h"

namespace sutor {

void print_rounding(const RoundingReport& report) {
  if (report.empty()) return;
  const bool again = report.rule == QuantizedRule::kRequantize;
  const RoundingSums total = report.total();
  const std::string largest = report.largest();
  fmt::print(
      "{} {} trained tensors: relative rounding error {:.3g}, largest {:.3g} ({}); the "
      "training changed them by {:.3g}\n",
      again ? "re-quantised" : "dequantised", report.tensors.size(), total.relative_error(),
      report.tensors.at(largest).relative_error(), largest, total.relative_update());
  if (again && report.exceeds_update()) {
    fmt::print(stderr,
               "warning[{}]: re-quantising changes the trained tensors more than training did. "
               "Export with `quantized: dequantize`, or an adapter.\n",
               WarningCode::kRoundingExceedsUpdate);
  }
  if (!report.unchanged.empty()) {
    fmt::print(stderr,
               "warning[{}]: {} trained tensors are the base's again after re-quantising, the "
               "first of them {}\n",
               WarningCode::kUnchangedByExport, report.unchanged.size(), report.unchanged.front());
  }
}

void print_left_out(const MergedExport& merged) {
  if (merged.left_out.empty()) return;
  fmt::print("left out: {} of the base's files, which hold or index untrained weights: {}\n",
             merged.left_out.size(), fmt::join(merged.left_out, ", "));
}

}  // namespace sutor
