// Verifies single files of a run: token stores, scores, expert configs.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "checkpoint/compare/verification.h"

namespace sutor {

enum class FileKind { kTokenStore, kScores, kExpertConfig };

// By the file's name, whether it is sound or not: *.tokens.h5, other *.h5 and summary.json,
// other *.json.
std::optional<FileKind> file_kind(const std::filesystem::path& path);

// Reads all of it, by the functions that the users of the file read it by.
Verification verify_file(const std::filesystem::path& path, FileKind kind);

}  // namespace sutor
