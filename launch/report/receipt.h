// receipt.json: what a run was, what came of it, and the digests of everything it was made of and
// made, so that `sutor verify receipt.json` can check it years later. checkpoint/FORMAT.md has the
// format.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "launch/log/run_paths.h"

namespace sutor {

inline constexpr const char* kReceiptFormat = "sutor.receipt";
inline constexpr const char* kReceiptFile = "receipt.json";

// How a run stands: "prepared" (no training has begun), "finished", "stopped" (on request),
// "failed", or "interrupted" (its end is not recorded: it was killed, or still runs). `record`:
// read_run_record().
std::string run_standing(const nlohmann::json& record);

// "sha256:<hex>" of the receipt without its key `digest`.
std::string receipt_digest(nlohmann::json receipt);

// Of the run in this folder, as it is now: reads metrics and logs, and every byte of token stores
// and small files, but of checkpoints and exports only their manifests, which have the digests of
// all their bytes. Throws E0301 when a file cannot be read.
nlohmann::ordered_json make_receipt(const RunPaths& paths);

// One process, which holds the folder's lock. `receipt`: of make_receipt(). Throws E0501, E0502.
void write_receipt(const RunPaths& paths, const nlohmann::ordered_json& receipt);

}  // namespace sutor
