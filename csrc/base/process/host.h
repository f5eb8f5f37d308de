// The machine that this process runs on.
#pragma once

#include <cstdint>
#include <string>

namespace sutor {

// What gethostname() says; empty when it says nothing.
std::string host_name();

// Changes at every start of the machine; empty where the system does not tell.
std::string boot_id();

// Bytes that this process can still take without making the machine swap or its container end it;
// the files' cache counts as free. The largest number where the system does not tell.
int64_t available_memory();

}  // namespace sutor
