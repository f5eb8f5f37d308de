#include "csrc/base/process/console.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <initializer_list>

namespace sutor {
namespace {

struct Stream {
  int fd;
  int error = 0;  // of the first write that failed
};

Stream out{STDOUT_FILENO}, err{STDERR_FILENO};

// Says that all was written, whatever happens.
ssize_t write_or_drop(void* cookie, const char* data, size_t size) {
  Stream& stream = *static_cast<Stream*>(cookie);
  for (size_t at = 0; at < size && stream.error == 0;) {
    const ssize_t count = ::write(stream.fd, data + at, size - at);
    if (count >= 0) {
      at += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      pollfd polled{stream.fd, POLLOUT, 0};
      ::poll(&polled, 1, /*timeout=*/-1);
    } else if (errno != EINTR) {
      stream.error = errno;
    }
  }
  return static_cast<ssize_t>(size);
}

FILE* stream_to(Stream& stream, int buffering) {
  FILE* file = ::fopencookie(&stream, "w", {.write = write_or_drop});
  if (file != nullptr) std::setvbuf(file, nullptr, buffering, BUFSIZ);
  return file;
}

}  // namespace

void open_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest free number is the one that is closed.
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY);
  }
}

void keep_console_from_failing() {
  if (FILE* file = stream_to(out, ::isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF)) stdout = file;
  if (FILE* file = stream_to(err, _IONBF)) stderr = file;
}

int console_error() {
  std::fflush(stdout);
  return out.error == EPIPE ? 0 : out.error;
}

}  // namespace sutor
