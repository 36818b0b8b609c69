// SPDX-License-Identifier: MIT
// A library to preload (LD_PRELOAD) that records what changes the file system below one folder.
//   LOX_RECORD_FOLDER   the folder, as realpath gives it
//   LOX_RECORD_FILE     the record: made, at its full size and zero, before the first process begins. All
//                       processes map it; one lock in it orders them. What is in it survives SIGKILL.
//   LOX_RECORD_NO_SYNC  words "file" and "folder" (1: both): such syncs are left out of the record, as if
//                       nobody had called them
// Calls whose effect it cannot record are noted as unknown.
#include "record_file.h"

// open
static int open_anything(int directory, const char* path, int flags, mode_t mode) {
  char where[PATH_MAX];
  const int changes = (flags & (O_CREAT | O_TRUNC)) != 0 && (flags & O_PATH) == 0;
  if (!changes || !resolve(directory, path, where)) {
    return (int)syscall(SYS_openat, directory, path, flags, mode);
  }
  lock();
  const int is_new = !exists(directory, path);
  struct Entry* entry = NULL;
  if (is_new && (flags & O_CREAT) != 0) entry = note(op_create, where, NULL, NULL, 0);
  if (!is_new && (flags & O_TRUNC) != 0) entry = note(op_truncate, where, NULL, NULL, 0);
  const int descriptor = (int)syscall(SYS_openat, directory, path, flags, mode);
  if (entry == NULL) {
    unlock();
    return descriptor;
  }
  if (descriptor >= 0) created(entry, descriptor, "", AT_EMPTY_PATH);
  finish(entry, descriptor >= 0);
  return descriptor;
}
static mode_t mode_of(int flags, va_list words) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(words, mode_t) : 0;
}
#define OPEN(name, first, directory)                         \
  int name(first const char* path, int flags, ...) {         \
    va_list words;                                           \
    va_start(words, flags);                                  \
    const mode_t mode = mode_of(flags, words);               \
    va_end(words);                                           \
    return open_anything(directory, path, flags, mode);      \
  }
#define WITH_DIRECTORY int directory,
OPEN(open, , AT_FDCWD)
OPEN(open64, , AT_FDCWD)
OPEN(openat, WITH_DIRECTORY, directory)
OPEN(openat64, WITH_DIRECTORY, directory)
int __open_2(const char* path, int flags) { return open_anything(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return open_anything(AT_FDCWD, path, flags, 0); }
int __openat_2(int directory, const char* path, int flags) {
  return open_anything(directory, path, flags, 0);
}
int __openat64_2(int directory, const char* path, int flags) {
  return open_anything(directory, path, flags, 0);
}
int creat(const char* path, mode_t mode) {
  return open_anything(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char* path, mode_t mode) { return creat(path, mode); }
FILE* fopen(const char* path, const char* how) {
  char where[PATH_MAX];
  if (how[0] != 'r' && resolve(AT_FDCWD, path, where)) note_unknown("fopen");
  return REAL(fopen)(path, how);
}
FILE* fopen64(const char* path, const char* how) {
  char where[PATH_MAX];
  if (how[0] != 'r' && resolve(AT_FDCWD, path, where)) note_unknown("fopen");
  return REAL(fopen64)(path, how);
}

// write
static int is_recorded_file(int descriptor, char* where) {
  struct stat status;
  return header != NULL && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
         path_of(descriptor, where);
}
/// `at` -1: where the file stands.
static ssize_t write_anything(int descriptor, const struct iovec* data, int pieces, off64_t at) {
  char where[PATH_MAX];
  if (!is_recorded_file(descriptor, where)) {
    if (at >= 0) return syscall(SYS_pwritev, descriptor, data, pieces, at, 0);
    return syscall(SYS_writev, descriptor, data, pieces);
  }
  lock();
  struct Entry* const entry = note(op_write, where, NULL, data, pieces);
  entry->inode = inode_of(descriptor);
  const ssize_t put = at >= 0 ? syscall(SYS_pwritev, descriptor, data, pieces, at, 0)
                              : syscall(SYS_writev, descriptor, data, pieces);
  if (put > 0) {
    const int reason = errno;
    entry->offset = (uint64_t)(at >= 0 ? at : lseek(descriptor, 0, SEEK_CUR) - put);
    entry->length = (uint64_t)put;  // the data may be longer
    errno = reason;
  }
  finish(entry, put > 0);
  return put;
}
static ssize_t write_one(int descriptor, const void* from, size_t size, off64_t at) {
  const struct iovec data = {(void*)from, size};
  return write_anything(descriptor, &data, 1, at);
}
ssize_t write(int descriptor, const void* from, size_t size) {
  char where[PATH_MAX];
  if (!is_recorded_file(descriptor, where)) return syscall(SYS_write, descriptor, from, size);
  return write_one(descriptor, from, size, -1);
}
ssize_t pwrite(int descriptor, const void* from, size_t size, off_t at) {
  return write_one(descriptor, from, size, at);
}
ssize_t pwrite64(int descriptor, const void* from, size_t size, off64_t at) {
  return write_one(descriptor, from, size, at);
}
ssize_t writev(int descriptor, const struct iovec* data, int pieces) {
  return write_anything(descriptor, data, pieces, -1);
}
ssize_t pwritev(int descriptor, const struct iovec* data, int pieces, off_t at) {
  return write_anything(descriptor, data, pieces, at);
}
ssize_t pwritev64(int descriptor, const struct iovec* data, int pieces, off64_t at) {
  return write_anything(descriptor, data, pieces, at);
}
// Callers fall back to writing when these are not to be had.
ssize_t sendfile(int to, int from, off_t* at, size_t count) {
  char where[PATH_MAX];
  if (is_recorded_file(to, where)) {
    errno = EINVAL;
    return -1;
  }
  return syscall(SYS_sendfile, to, from, at, count);
}
ssize_t sendfile64(int to, int from, off64_t* at, size_t count) { return sendfile(to, from, at, count); }
ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at, size_t count, unsigned flags) {
  char where[PATH_MAX];
  if (is_recorded_file(to, where)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return syscall(SYS_copy_file_range, from, from_at, to, to_at, count, flags);
}

// size
int ftruncate(int descriptor, off_t size) {
  char where[PATH_MAX];
  if (!is_recorded_file(descriptor, where)) return (int)syscall(SYS_ftruncate, descriptor, size);
  lock();
  struct Entry* const entry = note(op_truncate, where, NULL, NULL, 0);
  entry->inode = inode_of(descriptor);
  entry->offset = (uint64_t)size;
  const int result = (int)syscall(SYS_ftruncate, descriptor, size);
  finish(entry, result == 0);
  return result;
}
int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }
int truncate(const char* path, off_t size) {
  char where[PATH_MAX];
  if (resolve(AT_FDCWD, path, where)) note_unknown("truncate");
  return (int)syscall(SYS_truncate, path, size);
}
int truncate64(const char* path, off64_t size) { return truncate(path, size); }
int fallocate(int descriptor, int mode, off_t at, off_t size) {
  char where[PATH_MAX];
  if (!is_recorded_file(descriptor, where)) return (int)syscall(SYS_fallocate, descriptor, mode, at, size);
  if (mode != 0) note_unknown("fallocate with a mode");
  lock();
  struct Entry* const entry = note(op_reserve, where, NULL, NULL, 0);
  entry->inode = inode_of(descriptor);
  entry->offset = (uint64_t)at;
  entry->length = (uint64_t)size;
  const int result = (int)syscall(SYS_fallocate, descriptor, mode, at, size);
  finish(entry, result == 0);
  return result;
}
int fallocate64(int descriptor, int mode, off64_t at, off64_t size) {
  return fallocate(descriptor, mode, at, size);
}
int posix_fallocate(int descriptor, off_t at, off_t size) {
  const int result = fallocate(descriptor, 0, at, size);
  return result == 0 ? 0 : errno;
}
int posix_fallocate64(int descriptor, off64_t at, off64_t size) {
  return posix_fallocate(descriptor, at, size);
}

// names
int renameat2(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) {
  char one[PATH_MAX];
  char other[PATH_MAX];
  const int from_here = resolve(from_directory, from, one);
  const int to_here = resolve(to_directory, to, other);
  if (!from_here && !to_here) {
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
  }
  if (!from_here || !to_here) note_unknown("a rename across the border");
  lock();
  struct Entry* const entry = note(op_rename, one, other, NULL, 0);
  entry->flags = flags;
  const int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
  finish(entry, result == 0);
  return result;
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  return renameat2(from_directory, from, to_directory, to, 0);
}
int rename(const char* from, const char* to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int unlinkat(int directory, const char* path, int flags) {
  char where[PATH_MAX];
  if (!resolve(directory, path, where)) return (int)syscall(SYS_unlinkat, directory, path, flags);
  lock();
  struct Entry* const entry = note((flags & AT_REMOVEDIR) != 0 ? op_rmdir : op_unlink, where, NULL, NULL, 0);
  const int result = (int)syscall(SYS_unlinkat, directory, path, flags);
  finish(entry, result == 0);
  return result;
}
int unlink(const char* path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char* path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) {
  if (unlink(path) == 0) return 0;
  return errno == EISDIR || errno == EPERM ? rmdir(path) : -1;
}
int mkdirat(int directory, const char* path, mode_t mode) {
  char where[PATH_MAX];
  if (!resolve(directory, path, where)) return (int)syscall(SYS_mkdirat, directory, path, mode);
  lock();
  struct Entry* const entry = note(op_mkdir, where, NULL, NULL, 0);
  const int result = (int)syscall(SYS_mkdirat, directory, path, mode);
  if (result == 0) created(entry, directory, path, 0);
  finish(entry, result == 0);
  return result;
}
int mkdir(const char* path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  char one[PATH_MAX];
  char other[PATH_MAX];
  const int from_here = resolve(from_directory, from, one);
  const int to_here = resolve(to_directory, to, other);
  if (!to_here) return (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
  if (!from_here || flags != 0) note_unknown("a link from outside");
  lock();
  struct Entry* const entry = note(op_link, one, other, NULL, 0);
  const int result = (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
  finish(entry, result == 0);
  return result;
}
int link(const char* from, const char* to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char* target, int directory, const char* path) {
  char where[PATH_MAX];
  if (!resolve(directory, path, where)) return (int)syscall(SYS_symlinkat, target, directory, path);
  lock();
  struct Entry* const entry = note(op_symlink, target, where, NULL, 0);
  const int result = (int)syscall(SYS_symlinkat, target, directory, path);
  finish(entry, result == 0);
  return result;
}
int symlink(const char* target, const char* path) { return symlinkat(target, AT_FDCWD, path); }

// syncs
static int sync_anything(int descriptor, long call) {
  char where[PATH_MAX];
  struct stat status;
  const int here = header != NULL && fstat(descriptor, &status) == 0 && path_of(descriptor, where);
  const int is_folder = here && S_ISDIR(status.st_mode);
  if (!here || (is_folder ? leave_out_folders : leave_out_files)) return (int)syscall(call, descriptor);
  lock();
  struct Entry* const entry = note(op_sync, where, NULL, NULL, 0);
  entry->inode = status.st_ino;
  entry->flags = (uint32_t)is_folder;
  const int result = (int)syscall(call, descriptor);
  finish(entry, result == 0);
  return result;
}
int fsync(int descriptor) { return sync_anything(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_anything(descriptor, SYS_fdatasync); }
int syncfs(int descriptor) {
  char where[PATH_MAX];
  if (path_of(descriptor, where)) note_unknown("syncfs");
  return (int)syscall(SYS_syncfs, descriptor);
}
