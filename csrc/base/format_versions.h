// The version of every format that sutor writes: here a version is raised, by the rule at the end
// of checkpoint/FORMAT.md. Readers say which older ones they still read.
#pragma once

#include <cstdint>

namespace sutor {

inline constexpr int64_t kCheckpointManifestVersion = 1;  // checkpoint/format/manifest.h
inline constexpr uint32_t kTileIndexVersion = 3;          // checkpoint/format/tile_index.h
inline constexpr int64_t kStateFileVersion = 1;           // checkpoint/partial/state_file.h
inline constexpr int64_t kBaseStoreVersion = 1;           // checkpoint/store/store_manifest.h
inline constexpr uint32_t kStoreIndexVersion = 1;         // checkpoint/store/store_index.h
inline constexpr int kAdapterVersion = 1;                 // checkpoint/export/adapter.h
inline constexpr int kMergedExportVersion = 1;            // checkpoint/export/merged_export.h
inline constexpr int64_t kModelFilesVersion = 1;          // checkpoint/files/recorded_files.h
inline constexpr int kPeftInfoVersion = 1;                // checkpoint/export/peft_adapter.h
inline constexpr int64_t kTokenStoreVersion = 1;          // launch/data/token_store.h
inline constexpr int64_t kRunRecordVersion = 1;           // launch/log/run_record.h
inline constexpr int64_t kReceiptVersion = 1;             // launch/report/receipt.h

}  // namespace sutor
