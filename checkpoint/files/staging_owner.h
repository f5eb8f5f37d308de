// Who writes a staging directory: the OWNER file tells a crash's leftovers from work in progress.
#pragma once

#include <filesystem>

namespace sutor {

// {"host", "boot_id", "pid", "started"} of this process as JSON.
void write_owner(const std::filesystem::path& path);

// True when the owner certainly is gone: its process, or this host's boot, has ended; or the
// directory is older than a day and its owner cannot be looked at from here.
bool owner_is_gone(const std::filesystem::path& staging);

}  // namespace sutor
