// System calls that fail on request, and a record of those that changed something: a library to be
// preloaded (LD_PRELOAD) into a program under test, which then sees a full disk, a broken one, one
// that lies, or its own end.
//
//   FAULTY_CALLS="call[@rank]:part of the path:first:action[:times];..."
//
// call    open (for reading too), create (with O_CREAT), write (pwrite, writev, copy_file_range as
//         well), truncate, fsync (fdatasync), fallocate, rename, rename2 (renameat2), mkdir, unlink
//         (rmdir too), chmod, close, flock; any: all of them that change a file system
// @rank   only in the process with this PMI_RANK; else in all of them
// part    of the path of the file, by its descriptor where the call has none, of a rename the new
//         one; empty: any path; `*` in it stands for anything
// first   the number of the first matching call in this process that is struck, from 1 on
// action  eN    fails with errno N
//         drop  says that all went well and does nothing
//         flip  writes with the lowest bit of the middle byte turned over
//         short writes half of it, and says so
//         again renames, and then fails with ENOENT, as a repeated request does
//         kill  ends the process by SIGKILL, before the call
//         cut   takes the power from FAULTY_DISK, a mounted ext4, and ends the process
//         sN    sends signal N to the process, then does it
//         wN    waits N milliseconds, then does it
//         gate  waits until the file FAULTY_GATE is gone, then does it
// times   how many calls are struck, 1 when left out, 0: all
//
// FAULTY_CALLS_LOG=file  every call is appended there as a line "call path".
// FAULTY_TRACE=file      what `any` means and has a path with FAULTY_FOLDER in it, once it is done,
//                        is appended there: call, path, old path or -, offset, bytes, and where its
//                        bytes are in <file>.<pid>; the pid first, tabs between. Calls that did not
//                        succeed are `failed`, since rules count them.
// FAULTY_CLOCK=seconds   the clock is wrong by so much, after FAULTY_CLOCK_AFTER looks at it.
// The descriptors 0, 1 and 2 are left alone. What the C library does within itself is not seen.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
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
static int log_fd = -1, trace_fd = -1, trace_data = -1;
static long trace_bytes;
static const char* trace_folder;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
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

static int append_to(const char* path) {
  return REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void read_faults(void) {
  const char *log = getenv("FAULTY_CALLS_LOG"), *trace = getenv("FAULTY_TRACE");
  if (log) log_fd = append_to(log);
  trace_folder = getenv("FAULTY_FOLDER");
  if (trace && trace_folder) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.%d", trace, getpid());
    trace_fd = append_to(trace);
    trace_data = append_to(name);
  }
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

static void cut_power(void) {
  const char* disk = getenv("FAULTY_DISK");
  unsigned no_log_flush = 2;
  if (!disk || ioctl(REAL(open)(disk, O_RDONLY), _IOR('X', 125, unsigned), &no_log_flush) != 0) {
    dprintf(2, "FAULTY_DISK: no power to cut\n");
    _exit(99);
  }
  raise(SIGKILL);
}

static int exists(const char* path) {
  const int before = errno;
  struct stat status;
  const int found = lstat(path, &status) == 0;
  errno = before;
  return found;
}

static void wait_at_gate(void) {
  const char* gate = getenv("FAULTY_GATE");
  const struct timespec wait = {0, 10000000};
  while (gate && exists(gate)) nanosleep(&wait, NULL);
}

// Whether the pieces around each `*` are in the path, in this order.
static int matches(const char* path, const char* part) {
  char piece[256];
  while (*part) {
    size_t n = strcspn(part, "*");
    memcpy(piece, part, n);
    piece[n] = 0;
    path = strstr(path, piece);
    if (!path) return 0;
    path += n;
    part += n + (part[n] == '*');
  }
  return 1;
}

// The action of the faults that strike this call; empty for none. What comes before a call is done
// here.
static const char* strike_as(const char* call, const char* path, int of_any) {
  const int before = errno;
  pthread_once(&once, read_faults);
  const char* action = "";
  for (int i = 0; i < num_faults; ++i) {
    struct fault* fault = &faults[i];
    const char* wanted = of_any ? "any" : call;
    if (strcmp(fault->call, wanted) != 0 || !matches(path, fault->part)) continue;
    const long number = __sync_add_and_fetch(&fault->seen, 1);
    if (number < fault->first || (fault->times && number - fault->first >= fault->times)) continue;
    const char kind = fault->action[0], digit = fault->action[1];
    if (strcmp(fault->action, "kill") == 0) raise(SIGKILL);
    if (strcmp(fault->action, "cut") == 0) cut_power();
    if (strcmp(fault->action, "gate") == 0) wait_at_gate();
    if (kind == 's' && digit >= '0' && digit <= '9') {
      kill(getpid(), atoi(fault->action + 1));
    } else if (kind == 'w') {
      const long ms = atol(fault->action + 1);
      struct timespec wait = {ms / 1000, (ms % 1000) * 1000000};
      while (nanosleep(&wait, &wait) != 0 && errno == EINTR) continue;
    } else if (!*action && kind != 'g') {
      action = fault->action;
    }
  }
  errno = before;
  return action;
}

// A call that changes nothing (open for reading, close, flock).
static const char* look(const char* call, const char* path) {
  const char* action = strike_as(call, path, 0);
  if (log_fd >= 0) dprintf(log_fd, "%s %s\n", call, path);
  return action;
}

// A call that changes a file system.
static const char* strike(const char* call, const char* path) {
  const char* own = look(call, path);
  const char* any = strike_as(call, path, 1);
  return *own ? own : any;
}

static const char* path_of(int fd) {
  static __thread char path[PATH_MAX];
  const int before = errno;
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  errno = before;
  return path;
}

// The whole path of a name that is relative to a folder's descriptor.
static const char* path_at(int folder, const char* name, char* buffer) {
  if (name[0] == '/') return name;
  char here[PATH_MAX];
  if (folder == AT_FDCWD && !getcwd(here, sizeof here)) return name;
  const int n =
      snprintf(buffer, PATH_MAX, "%s/%s", folder == AT_FDCWD ? here : path_of(folder), name);
  return n < PATH_MAX ? buffer : name;
}

static int fails(const char* action) {
  if (action[0] != 'e') return 0;
  errno = atoi(action + 1);
  return 1;
}
static int drops(const char* action) { return strcmp(action, "drop") == 0; }

// A line of the trace, and the bytes that were written.
static void note(const char* call, const char* path, const char* old, long offset, long bytes,
                 const void* data) {
  if (trace_fd < 0 || !strstr(path, trace_folder)) return;
  const int before = errno;
  pthread_mutex_lock(&trace_lock);
  const long at = trace_bytes;
  for (long done = 0; data && done < bytes;) {
    const ssize_t n = REAL(write)(trace_data, (const char*)data + done, (size_t)(bytes - done));
    if (n <= 0) _exit(99);
    done += n;
    trace_bytes += n;
  }
  dprintf(trace_fd, "%d\t%s\t%s\t%s\t%ld\t%ld\t%ld\n", getpid(), call, path, old, offset, bytes,
          at);
  pthread_mutex_unlock(&trace_lock);
  errno = before;
}

static void note_end(int result, const char* call, const char* path, const char* old, long bytes) {
  note(result == 0 ? call : "failed", path, old, 0, bytes, NULL);
}

// The action of an opening, and what it will change: "create", "truncate" or nothing.
static const char* strike_open(const char* path, int creates, int empties, const char** change) {
  const int new = creates && !exists(path);
  *change = new ? "create" : empties ? "truncate" : NULL;
  const char* action = creates ? look("create", path) : look("open", path);
  const char* any = *change ? strike_as(*change, path, 1) : "";
  return *action ? action : any;
}

#define OPEN_WITH(name, folder, ...)                                                   \
  va_list rest;                                                                        \
  va_start(rest, flags);                                                               \
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;        \
  va_end(rest);                                                                        \
  char buffer[PATH_MAX];                                                               \
  const char *change, *whole = path_at(folder, path, buffer);                          \
  if (fails(strike_open(whole, flags & O_CREAT, flags & O_TRUNC, &change))) return -1; \
  const int opened = REAL(name)(__VA_ARGS__, mode);                                    \
  if (change) note_end(opened < 0, change, whole, "-", 0);                             \
  return opened

int open(const char* path, int flags, ...) { OPEN_WITH(open, AT_FDCWD, path, flags); }
int open64(const char* path, int flags, ...) { OPEN_WITH(open64, AT_FDCWD, path, flags); }
int openat(int dir, const char* path, int flags, ...) { OPEN_WITH(openat, dir, dir, path, flags); }
int openat64(int dir, const char* path, int flags, ...) {
  OPEN_WITH(openat64, dir, dir, path, flags);
}

// What std::ofstream opens with.
static FILE* open_stream(FILE* (*real)(const char*, const char*), const char* path,
                         const char* how) {
  char buffer[PATH_MAX];
  const char *change, *whole = path_at(AT_FDCWD, path, buffer);
  if (fails(strike_open(whole, how[0] != 'r', how[0] == 'w', &change))) return NULL;
  FILE* stream = real(path, how);
  if (change) note_end(stream == NULL, change, whole, "-", 0);
  return stream;
}
FILE* fopen(const char* path, const char* how) { return open_stream(REAL(fopen), path, how); }
FILE* fopen64(const char* path, const char* how) { return open_stream(REAL(fopen64), path, how); }

// Of all that writes bytes: does what the action says, or `write_now(bytes, size)`. `at`: the
// offset, or -1 where it is the descriptor's.
#define WRITE_WITH(fd, bytes, size, at, write_now)                                    \
  if (fd <= 2) return write_now(bytes, size);                                         \
  const char* action = strike("write", path_of(fd));                                  \
  if (fails(action)) return -1;                                                       \
  if (drops(action)) return (ssize_t)(size);                                          \
  if (strcmp(action, "short") == 0 && (size) > 1) (size) /= 2;                        \
  char* changed = NULL;                                                               \
  if (strcmp(action, "flip") == 0 && (size) > 0) {                                    \
    changed = memcpy(malloc(size), bytes, size);                                      \
    changed[(size) / 2] ^= 1;                                                         \
    bytes = changed;                                                                  \
  }                                                                                   \
  const ssize_t written = write_now(bytes, size);                                     \
  if (trace_fd >= 0) {                                                                \
    const long offset = (at) >= 0 ? (at) : lseek(fd, 0, SEEK_CUR) - written;          \
    note(written < 0 ? "failed" : "write", path_of(fd), "-", offset, written, bytes); \
  }                                                                                   \
  free(changed);                                                                      \
  return written

ssize_t write(int fd, const void* bytes, size_t size) {
#define NOW(b, n) REAL(write)(fd, b, n)
  WRITE_WITH(fd, bytes, size, -1L, NOW);
#undef NOW
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t at) {
#define NOW(b, n) REAL(pwrite64)(fd, b, n, at)
  WRITE_WITH(fd, bytes, size, (long)at, NOW);
#undef NOW
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t at) {
  return pwrite64(fd, bytes, size, at);
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    const ssize_t written = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (written < 0) return total ? total : -1;
    total += written;
    if ((size_t)written < parts[i].iov_len) break;
  }
  return total;
}

// While anything is recorded the kernel has no such call: the bytes are seen as writes.
ssize_t copy_file_range(int in, off64_t* from, int out, off64_t* to, size_t size, unsigned flags) {
  const char* action = strike("write", path_of(out));
  if (fails(action)) return -1;
  if (trace_fd >= 0) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return REAL(copy_file_range)(in, from, out, to, size, flags);
}

// Of a descriptor, and of a name: does what the action says, or the call.
#define ON_FILE(call, fd, bytes, now)                      \
  if (fd <= 2) return now;                                 \
  const char* action = strike(call, path_of(fd));          \
  if (fails(action)) return -1;                            \
  if (drops(action)) return 0;                             \
  const int result = now;                                  \
  note_end(result, call, path_of(fd), "-", (long)(bytes)); \
  return result

int ftruncate64(int fd, off64_t size) {
  ON_FILE("truncate", fd, size, REAL(ftruncate64)(fd, size));
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { ON_FILE("fsync", fd, 0, REAL(fsync)(fd)); }
int fdatasync(int fd) { ON_FILE("fsync", fd, 0, REAL(fdatasync)(fd)); }
int fallocate64(int fd, int mode, off64_t at, off64_t size) {
  ON_FILE("fallocate", fd, size, REAL(fallocate64)(fd, mode, at, size));
}
int fallocate(int fd, int mode, off_t at, off_t size) { return fallocate64(fd, mode, at, size); }
int fchmod(int fd, mode_t mode) { ON_FILE("chmod", fd, 0, REAL(fchmod)(fd, mode)); }

int flock(int fd, int operation) {
  const char* action = look("flock", path_of(fd));
  return fails(action) ? -1 : drops(action) ? 0 : REAL(flock)(fd, operation);
}

int close(int fd) {
  const char* action = num_faults && fd > 2 ? look("close", path_of(fd)) : "";
  const int result = REAL(close)(fd);
  return fails(action) ? -1 : result;
}

#define ON_NAME(call, folder, path, now)             \
  char buffer[PATH_MAX];                             \
  const char* whole = path_at(folder, path, buffer); \
  const char* action = strike(call, whole);          \
  if (fails(action)) return -1;                      \
  if (drops(action)) return 0;                       \
  const int result = now;                            \
  note_end(result, call, whole, "-", 0);             \
  return result

int mkdir(const char* path, mode_t mode) {
  ON_NAME("mkdir", AT_FDCWD, path, REAL(mkdir)(path, mode));
}
int mkdirat(int dir, const char* path, mode_t mode) {
  ON_NAME("mkdir", dir, path, REAL(mkdirat)(dir, path, mode));
}
int unlink(const char* path) { ON_NAME("unlink", AT_FDCWD, path, REAL(unlink)(path)); }
int rmdir(const char* path) { ON_NAME("unlink", AT_FDCWD, path, REAL(rmdir)(path)); }
int unlinkat(int dir, const char* path, int flags) {
  ON_NAME("unlink", dir, path, REAL(unlinkat)(dir, path, flags));
}
int remove(const char* path) { ON_NAME("unlink", AT_FDCWD, path, REAL(remove)(path)); }
int chmod(const char* path, mode_t mode) {
  ON_NAME("chmod", AT_FDCWD, path, REAL(chmod)(path, mode));
}

#define RENAME_WITH(call, from_dir, from, to_dir, to, traced, now)                      \
  char first[PATH_MAX], second[PATH_MAX];                                               \
  const char *old = path_at(from_dir, from, first), *new = path_at(to_dir, to, second); \
  const char* action = strike(call, new);                                               \
  if (fails(action)) return -1;                                                         \
  if (drops(action)) return 0;                                                          \
  const int result = now;                                                               \
  note_end(result, traced, new, old, 0);                                                \
  if (result == 0 && strcmp(action, "again") == 0) {                                    \
    errno = ENOENT;                                                                     \
    return -1;                                                                          \
  }                                                                                     \
  return result

int rename(const char* from, const char* to) {
  RENAME_WITH("rename", AT_FDCWD, from, AT_FDCWD, to, "rename", REAL(rename)(from, to));
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  RENAME_WITH("rename", from_dir, from, to_dir, to, "rename",
              REAL(renameat)(from_dir, from, to_dir, to));
}
int renameat2(int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
  const char* traced = flags & RENAME_EXCHANGE ? "exchange" : "rename";
  RENAME_WITH("rename2", from_dir, from, to_dir, to, traced,
              REAL(renameat2)(from_dir, from, to_dir, to, flags));
}

static time_t wrong_by(void) {
  static long looks;
  const char *seconds = getenv("FAULTY_CLOCK"), *after = getenv("FAULTY_CLOCK_AFTER");
  if (!seconds) return 0;
  return after && __sync_add_and_fetch(&looks, 1) < atol(after) ? 0 : (time_t)atol(seconds);
}
int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = REAL(clock_gettime)(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec += wrong_by();
  return result;
}
time_t time(time_t* into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into) *into = now.tv_sec;
  return now.tv_sec;
}
