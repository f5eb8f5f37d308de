#include "csrc/base/crash_report.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>

#include "csrc/base/error_codes.h"
#include "csrc/base/process/mapped_ranges.h"

namespace sutor {
namespace {

// A crash with less than this left of the limit of address space is a lack of memory: libraries ask
// for stacks of threads, arenas and shared segments of such sizes.
constexpr int64_t kNearTheLimit = int64_t{256} << 20;

std::atomic<bool> installed = false, exit_expected = false;
std::atomic<const char*> start_phase = nullptr;

// Text that is put together without memory. All of it is async-signal-safe.
class Line {
 public:
  Line& operator<<(const char* text) {
    const size_t count = std::min(std::strlen(text), sizeof text_ - size_ - 1);
    std::memcpy(text_ + size_, text, count);
    size_ += count;
    return *this;
  }
  Line& operator<<(int64_t number) {
    char digits[24];
    char* at = digits + sizeof digits - 1;
    *at = '\0';
    do {
      *--at = static_cast<char>('0' + number % 10);
    } while ((number /= 10) > 0);
    return *this << at;
  }
  // "error[E0503]: "
  Line& begin(ErrorCode code) {
    const int number = number_of(code);
    return *this << "error[E" << (number < 1000 ? "0" : "") << int64_t{number} << "]: ";
  }
  void write() {
    *this << "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text_, size_);
  }

 private:
  char text_[4096 + 512] = "";
  size_t size_ = 0;
};

int64_t address_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return -1;
  return static_cast<int64_t>(limit.rlim_cur);
}

// Pages of address space that are in use; the first number of /proc/self/statm.
int64_t address_space_used() {
  char text[64] = "";
  const int fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t count = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  int64_t pages = 0;
  for (ssize_t i = 0; i < count && text[i] >= '0' && text[i] <= '9'; ++i) {
    pages = pages * 10 + (text[i] - '0');
  }
  return pages * ::sysconf(_SC_PAGESIZE);
}

bool lacks_memory() {
  const int64_t left = address_space_left();
  return left >= 0 && (left < kNearTheLimit || start_phase != nullptr);
}

// what: "a library crashed (SIGSEGV)".
[[noreturn]] void end_without_memory(const char* what) {
  Line line;
  line.begin(ErrorCode::kOutOfMemory) << "out of memory: " << what;
  if (const char* phase = start_phase) line << " in " << phase;
  if (const int64_t limit = address_limit(); limit >= 0) {
    line << ", with " << (address_space_used() >> 20)
         << " MB of address space in use and a limit of " << (limit >> 20)
         << " MB (ulimit -v). Raise the limit, or run without it";
  }
  line.write();
  ::_exit(kExitResources);
}

// The signal's own action follows: a core dump, and the exit code that says so.
void die_of(int number) {
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void on_bus_error(int number, siginfo_t* info, void*) {
  if (const char* path = mapped_path(info->si_addr)) {
    Line line;
    line.begin(ErrorCode::kBrokenFile)
        << "" << path
        << " was shortened, or its file system failed, while it was read. Restore it, and leave "
           "files of a run alone while it lasts";
    line.write();
    ::_exit(kExitData);
  }
  if (info->si_code == BUS_ADRERR) {
    Line line;
    line.begin(ErrorCode::kOutOfMemory)
        << "out of memory: the memory behind a mapping cannot be had (SIGBUS): "
           "/dev/shm or a disk is full, or a mapped file was shortened";
    line.write();
    ::_exit(kExitResources);
  }
  die_of(number);
}

void on_crash(int number, siginfo_t*, void*) {
  if (lacks_memory()) {
    end_without_memory(number == SIGSEGV ? "a library crashed (SIGSEGV)"
                                         : "a library gave up (SIGABRT)");
  }
  const char* name = number == SIGSEGV ? "SIGSEGV" : number == SIGABRT ? "SIGABRT" : "a signal";
  Line line;
  line.begin(ErrorCode::kUnexpected)
      << "the program crashed (" << name << "). This is a bug in sutor";
  line.write();
  die_of(number);
}

[[noreturn]] void on_terminate() {
  const char* what = "an exception left a thread";
  try {
    if (std::current_exception()) std::rethrow_exception(std::current_exception());
  } catch (const std::bad_alloc&) {
    end_without_memory(start_phase ? "a request of a library" : "a thread of a library");
  } catch (const std::system_error& error) {
    if (error.code().value() == EAGAIN || error.code().value() == ENOMEM) {
      end_without_memory("a thread could not be started");
    }
  } catch (const std::exception& error) {
    Line line;
    line.begin(ErrorCode::kUnexpected) << "" << what << ": " << error.what();
    line.write();
    ::_exit(kExitInternal);
  } catch (...) {
  }
  Line line;
  line.begin(ErrorCode::kUnexpected) << "" << what;
  line.write();
  ::_exit(kExitInternal);
}

// A library ended the process: libgomp does when it cannot start a thread.
void on_exit() {
  if (exit_expected) return;
  if (lacks_memory()) end_without_memory("a library ended the process");
  Line line;
  line.begin(ErrorCode::kOutOfMemory)
      << "a library ended the process, for the reason above: memory, or the number "
         "of "
         "threads (ulimit -u)";
  line.write();
  ::_exit(kExitResources);
}

void handle(int number, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND;
  ::sigaction(number, &action, nullptr);
}

// Of the main thread: where its own stack overflows, a handler needs another one.
void use_other_stack() {
  static char stack[1 << 16];
  stack_t other{};
  other.ss_sp = stack;
  other.ss_size = sizeof stack;
  ::sigaltstack(&other, nullptr);
}

}  // namespace

long long address_space_left() {
  const int64_t limit = address_limit();
  return limit < 0 ? -1 : std::max<int64_t>(0, limit - address_space_used());
}

void report_load_failures() {
  set_start_phase("the initialisation of the libraries");
  std::set_terminate(on_terminate);
  for (const int number : {SIGSEGV, SIGABRT}) handle(number, on_crash);
}

void install_crash_report() {
  set_start_phase(nullptr);
  use_other_stack();
  std::set_terminate(on_terminate);
  std::atexit(on_exit);
  installed = true;
  restore_crash_report();
}

void restore_crash_report() {
  if (!installed) return;
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  handle(SIGBUS, on_bus_error);
  for (const int number : {SIGSEGV, SIGABRT, SIGILL, SIGFPE}) handle(number, on_crash);
}

void expect_exit() { exit_expected = true; }

void set_start_phase(const char* what) { start_phase = what; }

}  // namespace sutor
