// The names of everything in a checkpoint folder, made and parsed only here:
//   <root>/step-00000100/{w0000.h5, w0000.idx, ..., state.h5, MANIFEST.json}
//   <root>/.staging-00000200.<uuid>/    being written
//   <root>/.trash-00000050.<random>/    being deleted
//   <root>/LATEST, <root>/BEST          one line: the name of a step directory
// and in a base store:
//   <store>/{b00000.h5, b00000.idx, ..., headers/00000.bin, ..., files/..., MANIFEST.json}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "csrc/base/owner/process_owner.h"  // kOwnerFile

namespace sutor {

inline constexpr std::string_view kManifestFile = "MANIFEST.json";
inline constexpr std::string_view kStateFile = "state.h5";
inline constexpr std::string_view kLatestPointer = "LATEST";
inline constexpr std::string_view kBestPointer = "BEST";
inline constexpr std::string_view kStagingPrefix = ".staging-";
inline constexpr std::string_view kTrashPrefix = ".trash-";

std::string step_directory(int64_t step);  // "step-00000100"
// The step of a name made by step_directory(); nothing for any other name.
std::optional<int64_t> parse_step_directory(std::string_view name);

// Equal on every rank that knows step and uuid (letters, digits and '-', at most 64).
std::filesystem::path staging_directory(const std::filesystem::path& root, int64_t step,
                                        std::string_view uuid);
// A new name for a directory that is about to be deleted.
std::filesystem::path trash_directory(const std::filesystem::path& root, int64_t step);

std::string writer_file(int writer);  // "w0003.h5"
std::string index_file(int writer);   // "w0003.idx"

inline constexpr std::string_view kStoreFilesFolder = "files";
std::string store_data_file(size_t number);    // "b00003.h5"
std::string store_index_file(size_t number);   // "b00003.idx"
std::string store_header_file(size_t number);  // "headers/00003.bin"

}  // namespace sutor
