// One line and an exit code instead of a trace for what no exception reports: a mapped file that
// was shortened (SIGBUS, exit 3), memory that a library did not get (SIGSEGV, SIGABRT or exit() in
// it, an exception that leaves a thread; exit 5), and bugs.
#pragma once

namespace sutor {

// Installs the handlers over those of the libraries, which print traces of many lines. Files that
// would grow beyond the limit of a file's size (SIGXFSZ) and pipes without a reader (SIGPIPE) are
// errors of the write from now on.
void install_crash_report();

// For the program's .preinit_array: the same before the libraries are initialised, which may lack
// memory already, until install_crash_report() is called.
void report_load_failures();

// The handlers again, after a library may have set its own; nothing without the call above.
void restore_crash_report();

// The end of the process is near and wanted: without it, exit() is a library that gave up.
void expect_exit();

// While `what` is set and a limit of address space is set, too, any crash counts as its lack of
// memory. A literal; null: none.
void set_start_phase(const char* what);

// What is left of the limit of address space (ulimit -v), in bytes; -1: no limit.
long long address_space_left();

}  // namespace sutor
