// What a process that ends early still says on its streams: written without hanging when nobody
// reads, and given the time to come through the launcher, which drops what it has not forwarded
// when it ends a job.
#pragma once

#include <string>

namespace sutor {

// To stderr in one piece, so that lines of other ranks do not come between. Gives up after a second
// in which nobody reads.
void print_exit_report(const std::string& text);

// Returns once a launcher should have forwarded what this process wrote to stderr: it has read the
// pipe empty (waited for at most 2 s), and has had a moment to pass it on.
void wait_until_forwarded();

// Ends this process, whatever its other threads do; what stdout holds is written if that is
// possible.
[[noreturn]] void end_process(int exit_code);

}  // namespace sutor
