// SPDX-License-Identifier: MIT
// The record that record_writes.c writes: a header, then entries: struct Entry, path, second path, data; each a
// multiple of 8 bytes. An entry is written before its call as "begun"; when the call has succeeded, it is "done".
#pragma once
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum Operation {
  op_create = 1,   // path: a new file
  op_truncate,     // inode, offset: its new size
  op_write,        // inode, offset, data
  op_reserve,      // inode, offset, length
  op_rename,       // path, second path; flags: 2 exchanges
  op_unlink,       // path
  op_mkdir,        // path
  op_rmdir,        // path
  op_link,         // path: what exists, second path: the new name
  op_symlink,      // path: the target, second path: the new name
  op_sync,         // inode; flags: 1 if it is a folder
  op_unknown,      // path: a call that is not recorded; the record is of no use
};
enum State { failed = 0, begun = 1, done = 2 };

struct Header {
  uint64_t size;   // of the whole file
  uint64_t end;    // of the last entry
  uint64_t count;  // of entries
  uint64_t ready;  // 2: the lock may be used
  pthread_mutex_t mutex;
};
struct Entry {
  uint32_t bytes;  // of it all
  uint16_t operation;
  uint16_t state;
  uint32_t process;
  uint32_t flags;
  uint64_t inode;
  uint64_t birth;        // of what was created: seconds
  uint64_t birth_nanos;  // and the rest
  uint64_t offset;
  uint64_t length;
  uint32_t path_bytes;
  uint32_t other_bytes;
};
enum { first_entry = 4096 };

static struct Header* header;
static char folder[PATH_MAX];
static size_t folder_length;
static int leave_out_files;
static int leave_out_folders;

#define REAL(name) ((__typeof__(&name))real_function(#name))
static void* real_function(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

static void complain(const char* words) {
  (void)!syscall(SYS_write, 2, words, strlen(words));
  _exit(99);
}

__attribute__((constructor)) static void begin(void) {
  const char* const where = getenv("LOX_RECORD_FOLDER");
  const char* const file = getenv("LOX_RECORD_FILE");
  if (where == NULL || file == NULL || header != NULL) return;
  const char* const without = getenv("LOX_RECORD_NO_SYNC");
  if (without != NULL) {
    leave_out_files = strstr(without, "file") != NULL || strcmp(without, "1") == 0;
    leave_out_folders = strstr(without, "folder") != NULL || strcmp(without, "1") == 0;
  }
  folder_length = strlen(where);
  memcpy(folder, where, folder_length + 1);
  const int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
  struct stat status;
  if (descriptor < 0 || fstat(descriptor, &status) != 0) complain("record_writes: cannot open the record\n");
  void* const place = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  syscall(SYS_close, descriptor);
  if (place == MAP_FAILED) complain("record_writes: cannot map the record\n");
  struct Header* const shared = place;
  uint64_t expected = 0;
  if (__atomic_compare_exchange_n(&shared->ready, &expected, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->mutex, &attributes);
    shared->size = (uint64_t)status.st_size;
    shared->end = first_entry;
    __atomic_store_n(&shared->ready, 2, __ATOMIC_SEQ_CST);
  }
  while (__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) != 2) usleep(1000);
  header = shared;
}

static void lock(void) {
  if (pthread_mutex_lock(&header->mutex) == EOWNERDEAD) pthread_mutex_consistent(&header->mutex);
}
static void unlock(void) {
  const int reason = errno;
  pthread_mutex_unlock(&header->mutex);
  errno = reason;
}

// Where a call goes.
static int is_below(const char* path) {
  if (strncmp(path, folder, folder_length) != 0) return 0;
  return path[folder_length] == '/' || path[folder_length] == '\0';
}
/// The path of an open file, if it is below the folder.
static int path_of(int descriptor, char* to) {
  if (header == NULL || descriptor < 0) return 0;
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
  const ssize_t got = syscall(SYS_readlinkat, AT_FDCWD, name, to, (size_t)PATH_MAX - 1);
  if (got <= 0) return 0;
  to[got] = '\0';
  return is_below(to);
}
/// A path made absolute, if it is below the folder. The reader takes out "." and "..".
static int resolve(int directory, const char* path, char* to) {
  if (header == NULL || path == NULL) return 0;
  if (path[0] == '/') {
    snprintf(to, PATH_MAX, "%s", path);
    return is_below(to);
  }
  char base[PATH_MAX];
  if (directory == AT_FDCWD) {
    if (getcwd(base, sizeof base) == NULL) return 0;
  } else {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", directory);
    const ssize_t got = syscall(SYS_readlinkat, AT_FDCWD, name, base, sizeof base - 1);
    if (got <= 0) return 0;
    base[got] = '\0';
  }
  if (snprintf(to, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) complain("record_writes: a long path\n");
  return is_below(to);
}
static int exists(int directory, const char* path) {
  struct stat status;
  return fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}
static uint64_t inode_of(int descriptor) {
  struct stat status;
  return fstat(descriptor, &status) == 0 ? status.st_ino : 0;
}

// Entries. The lock is held from note() to finish().
static struct Entry* note(enum Operation operation, const char* path, const char* other,
                          const struct iovec* data, int pieces) {
  size_t length = 0;
  for (int i = 0; i < pieces; ++i) length += data[i].iov_len;
  const size_t path_bytes = path == NULL ? 0 : strlen(path);
  const size_t other_bytes = other == NULL ? 0 : strlen(other);
  const size_t bytes = (sizeof(struct Entry) + path_bytes + other_bytes + length + 7) / 8 * 8;
  if (header->end + bytes > header->size) complain("record_writes: the record is full\n");
  struct Entry* const entry = (struct Entry*)((char*)header + header->end);
  *entry = (struct Entry){.bytes = (uint32_t)bytes, .operation = (uint16_t)operation, .state = begun,
                          .process = (uint32_t)getpid(), .length = length,
                          .path_bytes = (uint32_t)path_bytes, .other_bytes = (uint32_t)other_bytes};
  char* to = (char*)(entry + 1);
  if (path_bytes > 0) memcpy(to, path, path_bytes);
  if (other_bytes > 0) memcpy(to + path_bytes, other, other_bytes);
  to += path_bytes + other_bytes;
  for (int i = 0; i < pieces; ++i) {
    memcpy(to, data[i].iov_base, data[i].iov_len);
    to += data[i].iov_len;
  }
  __atomic_store_n(&header->end, header->end + bytes, __ATOMIC_SEQ_CST);
  __atomic_store_n(&header->count, header->count + 1, __ATOMIC_SEQ_CST);
  return entry;
}
static void created(struct Entry* entry, int directory, const char* path, int flags) {
  const int reason = errno;
  struct statx status;
  if (statx(directory, path, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &status) == 0) {
    entry->inode = status.stx_ino;
    entry->birth = (uint64_t)status.stx_btime.tv_sec;
    entry->birth_nanos = status.stx_btime.tv_nsec;
  }
  errno = reason;
}
static void finish(struct Entry* entry, int succeeded) {
  entry->state = succeeded ? done : failed;
  unlock();
}
/// A call that this library has no entry for. It is made all the same: the reader refuses the record.
static void note_unknown(const char* call) {
  lock();
  finish(note(op_unknown, call, NULL, NULL, 0), 1);
}
