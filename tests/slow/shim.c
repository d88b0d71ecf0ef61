// Preloaded into a process: counts its file operations below one folder, and makes one of them a fault.
// fault_arm(root, shadow, mode, at): operations are numbered from 0; `shadow` keeps what was synced (a model of a power
// cut: faults.py rebuilds from it what would be left).
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, TEAR, ENOSPC_ONCE, EIO_ONCE, FULL };

static int mode = OFF;
static long at;
static atomic_long seen, kept;
static char root[PATH_MAX], shadow[PATH_MAX];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void fault_arm(const char *new_root, const char *new_shadow, int new_mode, long new_at) {
  snprintf(root, sizeof root, "%s", new_root);
  snprintf(shadow, sizeof shadow, "%s", new_shadow);
  seen = 0;
  at = new_at;
  mode = new_mode;
}

long fault_count(void) { return seen; }

static void path_of(int fd, char *full) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, full, PATH_MAX - 1);
  full[length < 0 ? 0 : length] = 0;
}

static int is_inside(const char *full) {
  size_t length = strlen(root);
  return mode != OFF && !strncmp(full, root, length) && (full[length] == 0 || full[length] == '/');
}

static int inside(int folder, const char *path, char *full) {
  if (mode == OFF) return 0;
  char base[PATH_MAX] = "";
  if (path[0] != '/') {
    if (folder == AT_FDCWD) {
      if (!getcwd(base, sizeof base)) return 0;
    } else {
      path_of(folder, base);
    }
  }
  if (snprintf(full, PATH_MAX, "%s%s%s", base, path[0] == '/' ? "" : "/", path) >= PATH_MAX) return 0;
  return is_inside(full);
}

static int inside_fd(int fd) {
  char full[PATH_MAX];
  if (mode == OFF) return 0;
  path_of(fd, full);
  return is_inside(full);
}

// 0: carry on; else the error to fail with, or -1: write a half. `takes_space`: fails on a full disk.
static int fault(int takes_space) {
  long number = seen++;
  if (mode == KILL && number == at) kill(getpid(), SIGKILL);
  if (mode == TEAR && number == at) return -1;
  if (mode == ENOSPC_ONCE && number == at) return ENOSPC;
  if (mode == EIO_ONCE && number == at) return EIO;
  if (mode == FULL && takes_space && number >= at) return number == at ? -1 : ENOSPC;
  return 0;
}

#define FAIL_IF(condition, takes_space)                            \
  if (condition) {                                                 \
    int error = fault(takes_space);                                \
    if (error == -1 && mode == TEAR) kill(getpid(), SIGKILL);      \
    if (error == -1) error = ENOSPC;                               \
    if (error) return errno = error, -1;                           \
  }

static void keep(const char *full) {  // its inode is not given away again
  char name[PATH_MAX + 32];
  if (!shadow[0]) return;
  snprintf(name, sizeof name, "%s/kept-%ld", shadow, kept++);
  (void)!link(full, name);
}

static void note_synced(int fd) {
  struct stat about;
  char name[PATH_MAX + 32], block[65536];
  if (!shadow[0] || fstat(fd, &about)) return;
  snprintf(name, sizeof name, "%s/%s-%lu", shadow, S_ISDIR(about.st_mode) ? "names" : "bytes", about.st_ino);
  int out = REAL(open)(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (S_ISDIR(about.st_mode)) {
    DIR *folder = fdopendir(REAL(openat)(fd, ".", O_RDONLY | O_DIRECTORY));
    for (struct dirent *entry; (entry = readdir(folder));)
      if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
        dprintf(out, "%lu %d %s\n", entry->d_ino, entry->d_type == DT_DIR, entry->d_name);
    closedir(folder);
  } else {
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);  // it may be open for writing only
    int in = REAL(open)(self, O_RDONLY);
    for (ssize_t n; (n = read(in, block, sizeof block)) > 0;) (void)!REAL(write)(out, block, n);
    close(in);
  }
  close(out);
}

static int opening(int folder, const char *path, int flags) {
  char full[PATH_MAX];
  int changes = flags & (O_CREAT | O_TRUNC) || (flags & O_ACCMODE) != O_RDONLY;
  FAIL_IF(changes && inside(folder, path, full), flags & O_CREAT)
  return 0;
}

#define OPEN(name, ...)                                            \
  {                                                                \
    va_list list;                                                  \
    va_start(list, flags);                                         \
    mode_t bits = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
    va_end(list);                                                  \
    return opening(__VA_ARGS__, flags) ? -1 : REAL(name)
int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, path)(path, flags, bits); }
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, path)(path, flags, bits); }
int openat(int folder, const char *path, int flags, ...) OPEN(openat, folder, path)(folder, path, flags, bits); }
int openat64(int folder, const char *path, int flags, ...) OPEN(openat64, folder, path)(folder, path, flags, bits); }

#define WRITE(real_half, real_whole)                               \
  {                                                                \
    int error = inside_fd(fd) ? fault(1) : 0;                      \
    if (error > 0) return errno = error, -1;                       \
    if (!error) return real_whole;                                 \
    ssize_t written = real_half;                                   \
    if (mode == TEAR) kill(getpid(), SIGKILL);                     \
    return written;                                                \
  }
ssize_t write(int fd, const void *data, size_t n)
  WRITE(REAL(write)(fd, data, (n + 1) / 2), REAL(write)(fd, data, n))
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t where)
  WRITE(REAL(pwrite64)(fd, data, (n + 1) / 2, where), REAL(pwrite64)(fd, data, n, where))
ssize_t writev(int fd, const struct iovec *parts, int n)
  WRITE(REAL(write)(fd, parts->iov_base, (parts->iov_len + 1) / 2), REAL(writev)(fd, parts, n))

static int renaming(int from, const char *old, int to, const char *new) {
  char full[PATH_MAX], target[PATH_MAX];
  FAIL_IF(inside(from, old, full), 0)
  if (inside(to, new, target)) keep(target);
  return 0;
}
int rename(const char *old, const char *new) {
  return renaming(AT_FDCWD, old, AT_FDCWD, new) ? -1 : REAL(rename)(old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
  return renaming(from, old, to, new) ? -1 : REAL(renameat)(from, old, to, new);
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
  return renaming(from, old, to, new) ? -1 : REAL(renameat2)(from, old, to, new, flags);
}

static int removing(int folder, const char *path, int is_folder) {
  char full[PATH_MAX], name[PATH_MAX + 32];
  int counts = inside(folder, path, full);
  FAIL_IF(counts, 0)
  if (counts && shadow[0] && !is_folder) keep(full);
  if (counts && shadow[0] && is_folder) {
    snprintf(name, sizeof name, "%s/kept-%ld", shadow, kept++);
    int number_of_entries = 0;
    DIR *open_folder = opendir(full);
    while (open_folder && readdir(open_folder)) number_of_entries++;
    if (open_folder) closedir(open_folder);
    if (number_of_entries == 2) return REAL(rename)(full, name) ? -1 : 1;
  }
  return 0;
}
#define REMOVE(folder, path, is_folder, real)                      \
  {                                                                \
    int done = removing(folder, path, is_folder);                  \
    return done < 0 ? -1 : done ? 0 : real;                        \
  }
int unlink(const char *path) REMOVE(AT_FDCWD, path, 0, REAL(unlink)(path))
int rmdir(const char *path) REMOVE(AT_FDCWD, path, 1, REAL(rmdir)(path))
int unlinkat(int folder, const char *path, int flags)
  REMOVE(folder, path, flags & AT_REMOVEDIR, REAL(unlinkat)(folder, path, flags))

static int making(int folder, const char *path) {
  char full[PATH_MAX];
  FAIL_IF(inside(folder, path, full), 1)
  return 0;
}
int mkdir(const char *path, mode_t bits) { return making(AT_FDCWD, path) ? -1 : REAL(mkdir)(path, bits); }
int mkdirat(int folder, const char *path, mode_t bits) {
  return making(folder, path) ? -1 : REAL(mkdirat)(folder, path, bits);
}

#define ON_FD(takes_space, real) { FAIL_IF(inside_fd(fd), takes_space) return real; }
int ftruncate(int fd, off_t n) ON_FD(0, REAL(ftruncate)(fd, n))
int ftruncate64(int fd, off64_t n) ON_FD(0, REAL(ftruncate64)(fd, n))

#define SYNC(name)                                                 \
  {                                                                \
    int counts = inside_fd(fd);                                    \
    FAIL_IF(counts, 0)                                             \
    int result = REAL(name)(fd);                                   \
    if (counts && !result) note_synced(fd);                        \
    return result;                                                 \
  }
int fsync(int fd) SYNC(fsync)
int fdatasync(int fd) SYNC(fdatasync)
