// The owner of a staging directory: the OWNER file tells the leftovers of a crash from work in
// progress.
#pragma once

#include <filesystem>

namespace sutor {

// {"host", "boot_id", "pid", "started"} of this process as JSON.
void write_owner(const std::filesystem::path& path);

// True when the owner is certainly gone: its process has ended, or this host was started again
// since then; or the directory is older than a day and its owner cannot be checked from here.
bool owner_is_gone(const std::filesystem::path& staging);

}  // namespace sutor
