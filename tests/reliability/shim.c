// Makes file operations of a program fail, stay undone, be written down, or be its last; by
// LD_PRELOAD. Read once from the environment:
//
//   FAULTY_CALLS  rules, divided by `;`:  operation:part of the path:nth:action[:times[:rank]]
//     operation   open create write truncate fallocate fsync rename mkdir unlink rmdir chmod close
//                 flock, rename2 (renameat2 alone), or `any`: those that change a file system
//     part        `*` in it stands for anything: .staging-00000002*w0000.h5
//     nth, times  the nth such call and as many as `times` (1; 0: all) from there on
//     action      eN (fails with errno N), drop (says success, does nothing), flip (one bit of what
//                 is written), short (half is written), again (a rename is done, and fails
//                 with ENOENT), kill (SIGKILL before the call), sN (signal N
//                 to itself before it), wN (waits N ms before it), cut (the power of FAULTY_DISK
//                 goes, an ext4 that is mounted there, then SIGKILL)
//     rank        only in the process with this PMI_RANK
//   FAULTY_TRACE  a file: a line for each operation of `any` that was done under FAULTY_FOLDER (a
//                 part of the path); the bytes that were written are in <file>.<pid>
//   A line: pid, operation, path, other path or -, offset, bytes, offset in <file>.<pid>; with tabs.
//
// A rename's path is its target. The calls of the C library that open, write and rename are seen,
// not what it does inside itself (stdio's own writes).
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

#define REAL(name, result, ...) \
  static result (*real_##name)(__VA_ARGS__); \
  if (!real_##name) real_##name = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

struct Rule {
  char operation[16], part[256], action[16];
  long nth, times, seen;
  int rank;
};
static struct Rule rules[32];
static int num_rules, rank_here = -1, trace_file = -1, trace_data = -1;
static long trace_bytes;
static const char* trace_folder;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_environment(void) {
  const char* rank = getenv("PMI_RANK");
  if (rank) rank_here = atoi(rank);
  char* text = getenv("FAULTY_CALLS");
  char *outer, *inner;
  if (text) text = strdup(text);
  for (char* r = text ? strtok_r(text, ";", &outer) : 0; r && num_rules < 32;
       r = strtok_r(0, ";", &outer)) {
    struct Rule* rule = &rules[num_rules++];
    char* words[6] = {0};
    int n = 0;
    for (char* w = strtok_r(r, ":", &inner); w && n < 6; w = strtok_r(0, ":", &inner)) {
      words[n++] = w;
    }
    if (n < 4) {
      dprintf(2, "FAULTY_CALLS: `%s` is no rule\n", r);
      _exit(99);
    }
    snprintf(rule->operation, sizeof rule->operation, "%s", words[0]);
    snprintf(rule->part, sizeof rule->part, "%s", words[1]);
    rule->nth = atol(words[2]);
    snprintf(rule->action, sizeof rule->action, "%s", words[3]);
    rule->times = words[4] ? atol(words[4]) : 1;
    rule->rank = words[5] ? atoi(words[5]) : -1;
  }
  const char* trace = getenv("FAULTY_TRACE");
  trace_folder = getenv("FAULTY_FOLDER");
  if (trace && trace_folder) {
    REAL(open, int, const char*, int, ...);
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.%d", trace, getpid());
    trace_file = real_open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    trace_data = real_open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  }
}

static void cut_power(void) {
  REAL(open, int, const char*, int, ...);
  const char* disk = getenv("FAULTY_DISK");
  unsigned no_log_flush = 2;
  if (!disk || ioctl(real_open(disk, O_RDONLY), _IOR('X', 125, unsigned), &no_log_flush) != 0) {
    dprintf(2, "FAULTY_DISK: no power to cut\n");
    _exit(99);
  }
  raise(SIGKILL);
}

static int changes(const char* operation) {
  return strcmp(operation, "open") && strcmp(operation, "close") && strcmp(operation, "flock") &&
         strcmp(operation, "rename2");
}

// Whether the parts around each `*` are in the path, in this order.
static int matches(const char* path, const char* part) {
  char copy[256], *rest;
  snprintf(copy, sizeof copy, "%s", part);
  for (char* p = strtok_r(copy, "*", &rest); p; p = strtok_r(0, "*", &rest)) {
    path = strstr(path, p);
    if (!path) return 0;
    path += strlen(p);
  }
  return 1;
}

// The rule that this call falls under; what comes before a call is done here.
static struct Rule* hit(const char* operation, const char* path) {
  pthread_once(&once, read_environment);
  struct Rule* found = 0;
  for (int i = 0; i < num_rules && path; ++i) {
    struct Rule* rule = &rules[i];
    const int any = !strcmp(rule->operation, "any") && changes(operation);
    if ((!any && strcmp(rule->operation, operation)) || !matches(path, rule->part)) continue;
    if (rule->rank >= 0 && rule->rank != rank_here) continue;
    const long k = __sync_add_and_fetch(&rule->seen, 1);
    if (k < rule->nth || (rule->times && k >= rule->nth + rule->times)) continue;
    if (!strcmp(rule->action, "kill")) raise(SIGKILL);
    if (!strcmp(rule->action, "cut")) cut_power();
    if (rule->action[0] == 's' && rule->action[1] >= '0' && rule->action[1] <= '9') {
      kill(getpid(), atoi(rule->action + 1));
    } else if (rule->action[0] == 'w') {
      const long ms = atol(rule->action + 1);
      const struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
      nanosleep(&wait, 0);
    } else {
      found = rule;
    }
  }
  return found;
}

static int fails(const struct Rule* rule) {
  if (!rule || rule->action[0] != 'e') return 0;
  errno = atoi(rule->action + 1);
  return 1;
}
static int is(const struct Rule* rule, const char* action) {
  return rule && !strcmp(rule->action, action);
}

static const char* path_of(int fd) {
  static __thread char path[PATH_MAX];
  char link[64];
  const int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  errno = saved;
  return path;
}

// The whole path of a name that is relative to a folder's descriptor.
static const char* path_at(int folder, const char* name, char* buffer) {
  if (!name || name[0] == '/') return name;
  char here[PATH_MAX];
  if (folder == AT_FDCWD && !getcwd(here, sizeof here)) return name;
  const char* parent = folder == AT_FDCWD ? here : path_of(folder);
  const int n = snprintf(buffer, PATH_MAX, "%s/%s", parent, name);
  return n < PATH_MAX ? buffer : name;
}

// A line of the trace. Operations that did not succeed are `failed`: rules count them, too.
static void note(const char* operation, const char* path, const char* other, long offset,
                 long bytes, const void* data) {
  if (trace_file < 0 || !path || !strstr(path, trace_folder)) return;
  const int saved = errno;
  REAL(write, ssize_t, int, const void*, size_t);
  pthread_mutex_lock(&trace_lock);
  long at = trace_bytes;
  if (data) {
    for (long done = 0; done < bytes;) {
      const ssize_t n = real_write(trace_data, (const char*)data + done, (size_t)(bytes - done));
      if (n <= 0) _exit(99);
      done += n;
    }
    trace_bytes += bytes;
  }
  char line[3 * PATH_MAX];
  const int n = snprintf(line, sizeof line, "%d\t%s\t%s\t%s\t%ld\t%ld\t%ld\n", getpid(), operation,
                         path, other ? other : "-", offset, bytes, at);
  if (real_write(trace_file, line, (size_t)n) != n) _exit(99);
  pthread_mutex_unlock(&trace_lock);
  errno = saved;
}

static int exists(const char* path) {
  const int saved = errno;
  struct stat status;
  const int found = lstat(path, &status) == 0;
  errno = saved;
  return found;
}

#define OPEN_BODY(call) \
  char buffer[PATH_MAX]; \
  const char* whole = path_at(folder, path, buffer); \
  const int new = flags & O_CREAT && !exists(whole); \
  const int empties = !new && flags & O_TRUNC; \
  if (fails(hit("open", whole))) return -1; \
  if (new && fails(hit("create", whole))) return -1; \
  if (empties && fails(hit("truncate", whole))) return -1; \
  const int fd = call; \
  if (fd >= 0 && new) note("create", whole, 0, 0, 0, 0); \
  if (fd >= 0 && empties) note("truncate", whole, 0, 0, 0, 0); \
  return fd

#define MODE \
  va_list list; \
  va_start(list, flags); \
  const mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0; \
  va_end(list)

int open(const char* path, int flags, ...) {
  REAL(open, int, const char*, int, ...);
  const int folder = AT_FDCWD;
  MODE;
  OPEN_BODY(real_open(path, flags, mode));
}
int open64(const char* path, int flags, ...) {
  REAL(open64, int, const char*, int, ...);
  const int folder = AT_FDCWD;
  MODE;
  OPEN_BODY(real_open64(path, flags, mode));
}
int openat(int folder, const char* path, int flags, ...) {
  REAL(openat, int, int, const char*, int, ...);
  MODE;
  OPEN_BODY(real_openat(folder, path, flags, mode));
}
int openat64(int folder, const char* path, int flags, ...) {
  REAL(openat64, int, int, const char*, int, ...);
  MODE;
  OPEN_BODY(real_openat64(folder, path, flags, mode));
}
// What std::ofstream opens with.
FILE* fopen64(const char* path, const char* how) {
  REAL(fopen64, FILE*, const char*, const char*);
  char buffer[PATH_MAX];
  const char* whole = path_at(AT_FDCWD, path, buffer);
  const int new = how[0] != 'r' && !exists(whole), empties = how[0] == 'w' && !new;
  if (fails(hit("open", whole)) || (new && fails(hit("create", whole)))) return 0;
  if (empties && fails(hit("truncate", whole))) return 0;
  FILE* file = real_fopen64(path, how);
  if (file && new) note("create", whole, 0, 0, 0, 0);
  if (file && empties) note("truncate", whole, 0, 0, 0, 0);
  return file;
}
FILE* fopen(const char* path, const char* how) { return fopen64(path, how); }

ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) {
  REAL(pwrite64, ssize_t, int, const void*, size_t, off64_t);
  struct Rule* rule = hit("write", path_of(fd));
  if (fails(rule)) return -1;
  if (is(rule, "drop")) return (ssize_t)bytes;
  if (is(rule, "short") && bytes > 1) bytes /= 2;
  char* flipped = 0;
  if (is(rule, "flip") && bytes) {
    flipped = malloc(bytes);
    memcpy(flipped, data, bytes);
    flipped[bytes / 2] ^= 1;
  }
  const void* what = flipped ? flipped : data;
  const ssize_t done = real_pwrite64(fd, what, bytes, offset);
  if (done > 0) note("write", path_of(fd), 0, offset, done, what);
  free(flipped);
  return done;
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  return pwrite64(fd, data, bytes, offset);
}
ssize_t write(int fd, const void* data, size_t bytes) {
  REAL(write, ssize_t, int, const void*, size_t);
  if (fd <= 2) return real_write(fd, data, bytes);
  struct Rule* rule = hit("write", path_of(fd));
  if (fails(rule)) return -1;
  if (is(rule, "drop")) return (ssize_t)bytes;
  if (is(rule, "short") && bytes > 1) bytes /= 2;
  const ssize_t done = real_write(fd, data, bytes);
  if (done > 0 && trace_file >= 0) {
    note("write", path_of(fd), 0, lseek(fd, 0, SEEK_CUR) - done, done, data);
  }
  return done;
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    const ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
    if (done < 0) return total ? total : -1;
    total += done;
    if ((size_t)done < parts[i].iov_len) break;
  }
  return total;
}
// As if the kernel did not have it: the program's own copying is seen as writes.
ssize_t copy_file_range(int from, off64_t* a, int to, off64_t* b, size_t bytes, unsigned flags) {
  REAL(copy_file_range, ssize_t, int, off64_t*, int, off64_t*, size_t, unsigned);
  pthread_once(&once, read_environment);
  if (num_rules || trace_file >= 0) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return real_copy_file_range(from, a, to, b, bytes, flags);
}

#define ON_FILE(operation, bytes, call) \
  const char* whole = path_of(fd); \
  struct Rule* rule = hit(operation, whole); \
  if (fails(rule)) return -1; \
  const int done = is(rule, "drop") ? 0 : call; \
  if (!is(rule, "drop")) note(done == 0 ? operation : "failed", whole, 0, 0, bytes, 0); \
  return done

int fsync(int fd) {
  REAL(fsync, int, int);
  ON_FILE("fsync", 0, real_fsync(fd));
}
int fdatasync(int fd) {
  REAL(fdatasync, int, int);
  ON_FILE("fsync", 0, real_fdatasync(fd));
}
int ftruncate64(int fd, off64_t bytes) {
  REAL(ftruncate64, int, int, off64_t);
  ON_FILE("truncate", bytes, real_ftruncate64(fd, bytes));
}
int ftruncate(int fd, off_t bytes) { return ftruncate64(fd, bytes); }
int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) {
  REAL(fallocate64, int, int, int, off64_t, off64_t);
  ON_FILE("fallocate", bytes, real_fallocate64(fd, mode, offset, bytes));
}
int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  return fallocate64(fd, mode, offset, bytes);
}
int posix_fallocate64(int fd, off64_t offset, off64_t bytes) {
  return fallocate64(fd, 0, offset, bytes) == 0 ? 0 : errno;
}
int posix_fallocate(int fd, off_t offset, off_t bytes) {
  return posix_fallocate64(fd, offset, bytes);
}
int fchmod(int fd, mode_t mode) {
  REAL(fchmod, int, int, mode_t);
  ON_FILE("chmod", 0, real_fchmod(fd, mode));
}
int flock(int fd, int how) {
  REAL(flock, int, int, int);
  struct Rule* rule = hit("flock", path_of(fd));
  return fails(rule) ? -1 : is(rule, "drop") ? 0 : real_flock(fd, how);
}
int close(int fd) {
  REAL(close, int, int);
  struct Rule* rule = num_rules ? hit("close", path_of(fd)) : 0;
  const int done = real_close(fd);
  return fails(rule) ? -1 : done;
}

#define ON_NAME(operation, folder, path, call) \
  char buffer[PATH_MAX]; \
  const char* whole = path_at(folder, path, buffer); \
  struct Rule* rule = hit(operation, whole); \
  if (fails(rule)) return -1; \
  const int done = is(rule, "drop") ? 0 : call; \
  if (!is(rule, "drop")) note(done == 0 ? operation : "failed", whole, 0, 0, 0, 0); \
  return done

int mkdir(const char* path, mode_t mode) {
  REAL(mkdir, int, const char*, mode_t);
  ON_NAME("mkdir", AT_FDCWD, path, real_mkdir(path, mode));
}
int mkdirat(int folder, const char* path, mode_t mode) {
  REAL(mkdirat, int, int, const char*, mode_t);
  ON_NAME("mkdir", folder, path, real_mkdirat(folder, path, mode));
}
int unlink(const char* path) {
  REAL(unlink, int, const char*);
  ON_NAME("unlink", AT_FDCWD, path, real_unlink(path));
}
int rmdir(const char* path) {
  REAL(rmdir, int, const char*);
  ON_NAME("rmdir", AT_FDCWD, path, real_rmdir(path));
}
int unlinkat(int folder, const char* path, int flags) {
  REAL(unlinkat, int, int, const char*, int);
  ON_NAME(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path,
          real_unlinkat(folder, path, flags));
}
int remove(const char* path) {
  struct stat status;
  return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) ? rmdir(path) : unlink(path);
}
int chmod(const char* path, mode_t mode) {
  REAL(chmod, int, const char*, mode_t);
  ON_NAME("chmod", AT_FDCWD, path, real_chmod(path, mode));
}

int renameat2(int from, const char* a, int to, const char* b, unsigned flags) {
  REAL(renameat2, int, int, const char*, int, const char*, unsigned);
  char first[PATH_MAX], second[PATH_MAX];
  const char *source = path_at(from, a, first), *target = path_at(to, b, second);
  struct Rule* special = hit("rename2", target);
  if (fails(special)) return -1;
  struct Rule* rule = hit("rename", target);
  if (fails(rule)) return -1;
  if (is(rule, "drop")) return 0;
  const int done = real_renameat2(from, a, to, b, flags);
  note(done ? "failed" : flags & 2 ? "exchange" : "rename", target, source, 0, 0, 0);
  // `again`: a network file system that repeats a rename whose answer was lost.
  if (done == 0 && (is(rule, "again") || is(special, "again"))) {
    errno = ENOENT;
    return -1;
  }
  return done;
}
int renameat(int from, const char* a, int to, const char* b) {
  REAL(renameat, int, int, const char*, int, const char*);
  char first[PATH_MAX], second[PATH_MAX];
  const char *source = path_at(from, a, first), *target = path_at(to, b, second);
  struct Rule* rule = hit("rename", target);
  if (fails(rule)) return -1;
  if (is(rule, "drop")) return 0;
  const int done = real_renameat(from, a, to, b);
  note(done ? "failed" : "rename", target, source, 0, 0, 0);
  if (done == 0 && is(rule, "again")) {
    errno = ENOENT;
    return -1;
  }
  return done;
}
int rename(const char* a, const char* b) { return renameat(AT_FDCWD, a, AT_FDCWD, b); }
