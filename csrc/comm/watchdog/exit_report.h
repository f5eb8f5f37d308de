// The exit report of a process that ends early: written without hanging when nobody reads, and
// given time to pass through the launcher, which drops what it has not forwarded when it ends a
// job.
#pragma once

#include <string>

namespace sutor {

// Writes to stderr in one go, so that lines of other ranks do not come between. Gives up after a
// second in which nobody reads.
void print_exit_report(const std::string& text);

// Returns once a launcher should have forwarded what this process wrote to stderr: when it has
// emptied the pipe (for at most 2 s) and then had a moment to pass the text on.
void wait_until_forwarded();

// Ends this process, whatever its other threads do; flushes stdout if that is possible.
[[noreturn]] void end_process(int exit_code);

}  // namespace sutor
