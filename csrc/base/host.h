// The machine that this process runs on.
#pragma once

#include <string>

namespace sutor {

// What gethostname() says; empty when it says nothing.
std::string host_name();

// Changes at every start of the machine; empty where the system does not tell.
std::string boot_id();

}  // namespace sutor
