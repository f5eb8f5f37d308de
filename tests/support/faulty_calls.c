// System calls that fail on request: a library to be preloaded (LD_PRELOAD) into a program under
// test, which then sees a full disk, a broken one, or one that lies.
//
//   FAULTY_CALLS="call[@rank]:part of the path:first:action[:times];..."
//
// call    open (for reading too), create, write (pwrite, writev, copy_file_range as well), truncate,
//         fsync, fallocate, rename, rename2 (renameat2), mkdir, unlink (rmdir too), flock
// @rank   only in the process with this PMI_RANK; else in all of them
// part    of the path of the file, by its descriptor where the call has none; empty: any path
// first   the number of the first matching call in this process that is struck, from 1 on
// action  eN    fails with errno N
//         drop  says that all went well and does nothing (write, truncate, fsync)
//         flip  writes with the lowest bit of the middle byte turned over
//         short writes half of it, and says so
//         kill  ends the process by SIGKILL, before the call
//         wN    waits N milliseconds, then does it
// times   how many calls are struck, 1 when left out
//
// FAULTY_CALLS_LOG=file  every call is appended there as a line "call path".
// The descriptors 0, 1 and 2 are left alone.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FAULTS 32

struct fault {
  char call[16], part[256], action[16];
  long first, times, seen;
};

static struct fault faults[MAX_FAULTS];
static int num_faults;
static int log_fd = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// The next field up to ':' or ';'; returns what follows it.
static const char* take_field(const char* text, char* into, size_t size) {
  size_t n = 0;
  while (*text && *text != ':' && *text != ';') {
    if (n + 1 < size) into[n++] = *text;
    ++text;
  }
  into[n] = 0;
  return *text == ':' ? text + 1 : text;
}

static int of_this_rank(char* call) {
  char* at = strchr(call, '@');
  if (!at) return 1;
  *at = 0;
  const char* rank = getenv("PMI_RANK");
  return atol(at + 1) == (rank ? atol(rank) : 0);
}

static void read_faults(void) {
  const char* log = getenv("FAULTY_CALLS_LOG");
  if (log) log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const char* text = getenv("FAULTY_CALLS");
  while (text && *text && num_faults < MAX_FAULTS) {
    struct fault* fault = &faults[num_faults];
    char number[24];
    text = take_field(text, fault->call, sizeof fault->call);
    text = take_field(text, fault->part, sizeof fault->part);
    text = take_field(text, number, sizeof number);
    fault->first = atol(number);
    text = take_field(text, fault->action, sizeof fault->action);
    text = take_field(text, number, sizeof number);
    fault->times = *number ? atol(number) : 1;
    if (of_this_rank(fault->call)) ++num_faults;
    if (*text == ';') ++text;
  }
}

static void note(const char* call, const char* path) {
  char line[4200];
  const int n = snprintf(line, sizeof line, "%s %s\n", call, path);
  if (n > 0) (void)!REAL(write)(log_fd, line, (size_t)n);
}

// The action that strikes this call; empty for none. Kills and waits are done here.
static const char* strike(const char* call, const char* path) {
  const int before = errno;
  pthread_once(&once, read_faults);
  if (log_fd >= 0) note(call, path);
  const char* action = "";
  for (int i = 0; i < num_faults; ++i) {
    struct fault* fault = &faults[i];
    if (strcmp(fault->call, call) != 0 || !strstr(path, fault->part)) continue;
    const long number = __sync_add_and_fetch(&fault->seen, 1);
    if (number < fault->first || number - fault->first >= fault->times) continue;
    if (strcmp(fault->action, "kill") == 0) raise(SIGKILL);
    if (fault->action[0] == 'w') {
      const long ms = atol(fault->action + 1);
      const struct timespec wait = {ms / 1000, (ms % 1000) * 1000000};
      nanosleep(&wait, NULL);
      continue;
    }
    if (!*action) action = fault->action;
  }
  errno = before;
  return action;
}

static const char* strike_fd(const char* call, int fd) {
  if (fd <= 2) return "";
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  return strike(call, path);
}

static int fails(const char* action) {
  if (action[0] != 'e') return 0;
  errno = atoi(action + 1);
  return 1;
}

#define OPEN_WITH(name, ...)                                                    \
  va_list rest;                                                                 \
  va_start(rest, flags);                                                        \
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
  va_end(rest);                                                                 \
  if (fails(strike(flags & O_CREAT ? "create" : "open", path))) return -1;      \
  return REAL(name)(__VA_ARGS__, mode)

int open(const char* path, int flags, ...) { OPEN_WITH(open, path, flags); }
int open64(const char* path, int flags, ...) { OPEN_WITH(open64, path, flags); }
int openat(int dir, const char* path, int flags, ...) { OPEN_WITH(openat, dir, path, flags); }
int openat64(int dir, const char* path, int flags, ...) { OPEN_WITH(openat64, dir, path, flags); }

// Of all that writes bytes: does what the action says, or `write_now(bytes, size)`.
#define WRITE_WITH(action, bytes, size, write_now)                  \
  if (fails(action)) return -1;                                     \
  if (strcmp(action, "drop") == 0) return (ssize_t)(size);          \
  if (strcmp(action, "short") == 0 && (size) > 1) (size) /= 2;      \
  if (strcmp(action, "flip") == 0 && (size) > 0) {                  \
    char* changed = malloc(size);                                   \
    memcpy(changed, bytes, size);                                   \
    changed[(size) / 2] ^= 1;                                       \
    const ssize_t written = write_now(changed, size);               \
    free(changed);                                                  \
    return written;                                                 \
  }                                                                 \
  return write_now(bytes, size)

ssize_t write(int fd, const void* bytes, size_t size) {
#define NOW(b, n) REAL(write)(fd, b, n)
  const char* action = strike_fd("write", fd);
  WRITE_WITH(action, bytes, size, NOW);
#undef NOW
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
#define NOW(b, n) REAL(pwrite)(fd, b, n, at)
  const char* action = strike_fd("write", fd);
  WRITE_WITH(action, bytes, size, NOW);
#undef NOW
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
#define NOW(b, n) REAL(pwrite64)(fd, b, n, at)
  const char* action = strike_fd("write", fd);
  WRITE_WITH(action, bytes, size, NOW);
#undef NOW
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  const char* action = strike_fd("write", fd);
  if (fails(action)) return -1;
  if (strcmp(action, "drop") != 0) return REAL(writev)(fd, parts, count);
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) total += (ssize_t)parts[i].iov_len;
  return total;
}

ssize_t copy_file_range(int in, off64_t* from, int out, off64_t* to, size_t size, unsigned flags) {
  if (fails(strike_fd("write", out))) return -1;
  return REAL(copy_file_range)(in, from, out, to, size, flags);
}

int ftruncate(int fd, off_t size) {
  const char* action = strike_fd("truncate", fd);
  if (fails(action)) return -1;
  return strcmp(action, "drop") == 0 ? 0 : REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) {
  const char* action = strike_fd("truncate", fd);
  if (fails(action)) return -1;
  return strcmp(action, "drop") == 0 ? 0 : REAL(ftruncate64)(fd, size);
}

int fsync(int fd) {
  const char* action = strike_fd("fsync", fd);
  if (fails(action)) return -1;
  return strcmp(action, "drop") == 0 ? 0 : REAL(fsync)(fd);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  return fails(strike_fd("fallocate", fd)) ? -1 : REAL(fallocate)(fd, mode, at, size);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size) {
  return fails(strike_fd("fallocate", fd)) ? -1 : REAL(fallocate64)(fd, mode, at, size);
}

int rename(const char* from, const char* to) {
  return fails(strike("rename", to)) ? -1 : REAL(rename)(from, to);
}

int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  return fails(strike("rename2", to)) ? -1 : REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  return fails(strike("mkdir", path)) ? -1 : REAL(mkdir)(path, mode);
}

int unlink(const char* path) { return fails(strike("unlink", path)) ? -1 : REAL(unlink)(path); }

int unlinkat(int dir, const char* path, int flags) {
  return fails(strike("unlink", path)) ? -1 : REAL(unlinkat)(dir, path, flags);
}

int rmdir(const char* path) { return fails(strike("unlink", path)) ? -1 : REAL(rmdir)(path); }

int flock(int fd, int operation) {
  return fails(strike_fd("flock", fd)) ? -1 : REAL(flock)(fd, operation);
}
