// The console of a process, which never ends its work: standard streams that were closed at the
// start, a reader that goes away (`| head`), a full disk behind stdout.
#pragma once

namespace sutor {

// Opens /dev/null on those of the descriptors 0, 1 and 2 that are closed, so that no file of the
// program gets such a number and its console's text. First thing in main.
void open_standard_streams();

// From now on what is written to stdout and stderr is dropped once a write has failed, and no write
// fails. Without it a broken pipe would throw out of a print in the middle of the work.
void keep_console_from_failing();

// The errno of the first write to stdout that failed, after flushing it; 0: none, or only that its
// reader had gone.
int console_error();

}  // namespace sutor
