/* Records what a process does to the files of one folder, in order, as a crash would cut it off.
 *
 * LD_PRELOAD this with RECORD_DIR (the folder, absolute) and RECORD_LOG (where to write). Each record is a line of
 * text; a written block follows its line raw:
 *   O inode created truncated name | W inode offset length \n bytes | T inode size | A inode size
 *   R from to | U name | S inode (fsync or fdatasync) | D (fsync of the folder)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FDS = 4096 };
static int log_fd = -1;
static const char *dir;
static size_t dir_length;
static unsigned char watched[FDS]; /* 1: a file of the folder, 2: the folder itself */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    dir = getenv("RECORD_DIR");
    const char *log = getenv("RECORD_LOG");
    if (!dir || !log) return;
    dir_length = strlen(dir);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static void put(const void *bytes, size_t n) {
    if (syscall(SYS_write, log_fd, bytes, n) != (long)n) abort();
}

static void line(const char *format, ...) {
    char text[8192];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(text, (size_t)n);
}

static const char *name_in(const char *path) {
    if (log_fd < 0 || strncmp(path, dir, dir_length) || path[dir_length] != '/') return NULL;
    return path + dir_length + 1;
}

static unsigned long inode(int fd) {
    struct stat s;
    return fstat(fd, &s) ? 0 : (unsigned long)s.st_ino;
}

static int kept(int fd) { return log_fd >= 0 && fd >= 0 && fd < FDS ? watched[fd] : 0; }

static void block(int fd, off_t at, const void *bytes, ssize_t n) {
    if (n <= 0) return;
    line("W %lu %lld %zd\n", inode(fd), (long long)at, n);
    put(bytes, (size_t)n);
}

static int open_recorded(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    const char *name = name_in(path);
    int absent = name && access(path, F_OK);
    int fd = real(path, flags, mode);
    if (fd < 0 || fd >= FDS) return fd;
    watched[fd] = 0;
    if (log_fd >= 0 && !strcmp(path, dir)) watched[fd] = 2;
    if (name) {
        watched[fd] = 1;
        if (absent || flags & O_TRUNC)
            line("O %lu %d %d %s\n", inode(fd), absent, (flags & O_TRUNC) != 0, name);
    }
    return fd;
}

#define OPEN(symbol)                                                                                                   \
    int symbol(const char *path, int flags, ...) {                                                                     \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                                                         \
            va_list args;                                                                                              \
            va_start(args, flags);                                                                                     \
            mode = va_arg(args, mode_t);                                                                               \
            va_end(args);                                                                                              \
        }                                                                                                              \
        return open_recorded(REAL(symbol), path, flags, mode);                                                         \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS) watched[fd] = 0;
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *bytes, size_t n) {
    off_t at = kept(fd) == 1 ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = REAL(write)(fd, bytes, n);
    if (kept(fd) == 1) block(fd, at, bytes, done);
    return done;
}

#define PWRITE(symbol, offset_type)                                                                                    \
    ssize_t symbol(int fd, const void *bytes, size_t n, offset_type at) {                                              \
        ssize_t done = REAL(symbol)(fd, bytes, n, at);                                                                 \
        if (kept(fd) == 1) block(fd, (off_t)at, bytes, done);                                                          \
        return done;                                                                                                   \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags) {
    off64_t at = to_at ? *to_at : 0;
    ssize_t done = REAL(copy_file_range)(from, from_at, to, to_at, n, flags);
    if (kept(to) == 1 && done > 0) {
        char *bytes = malloc((size_t)done);
        if (!bytes || pread(to, bytes, (size_t)done, at) != done) abort();
        block(to, at, bytes, done);
        free(bytes);
    }
    return done;
}

#define TRUNCATE(symbol, offset_type)                                                                                  \
    int symbol(int fd, offset_type size) {                                                                             \
        int status = REAL(symbol)(fd, size);                                                                           \
        if (!status && kept(fd) == 1) line("T %lu %lld\n", inode(fd), (long long)size);                                \
        return status;                                                                                                 \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define RESERVE(symbol, offset_type)                                                                                   \
    int symbol(int fd, offset_type at, offset_type size) {                                                             \
        int status = REAL(symbol)(fd, at, size);                                                                       \
        if (!status && kept(fd) == 1) line("A %lu %lld\n", inode(fd), (long long)(at + size));                         \
        return status;                                                                                                 \
    }
RESERVE(posix_fallocate, off_t)
RESERVE(posix_fallocate64, off64_t)

#define SYNC(symbol)                                                                                                   \
    int symbol(int fd) {                                                                                               \
        int status = REAL(symbol)(fd);                                                                                 \
        if (!status && kept(fd) == 1) line("S %lu\n", inode(fd));                                                      \
        if (!status && kept(fd) == 2) line("D\n");                                                                     \
        return status;                                                                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    int status = REAL(rename)(from, to);
    if (!status && name_in(from) && name_in(to)) line("R %s %s\n", name_in(from), name_in(to));
    return status;
}

int unlink(const char *path) {
    int status = REAL(unlink)(path);
    if (!status && name_in(path)) line("U %s\n", name_in(path));
    return status;
}
