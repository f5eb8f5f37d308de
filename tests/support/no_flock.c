/* Preloaded into a program: the file system has no locks, and says so by NO_FLOCK_ERRNO. */
#include <errno.h>
#include <stdlib.h>

int flock(int fd, int operation) {
  (void)fd;
  (void)operation;
  const char* number = getenv("NO_FLOCK_ERRNO");
  errno = number ? atoi(number) : ENOLCK;
  return -1;
}
