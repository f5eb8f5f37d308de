// Lacks <string> on purpose: what compiles every header by itself has to refuse this one.
#pragma once

namespace sutor {

std::string leaning();

}  // namespace sutor
