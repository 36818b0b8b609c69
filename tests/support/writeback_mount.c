// SPDX-License-Identifier: MIT
// A file system that shows a folder, with a page cache of its own that writes back late. Two mounts of one folder are
// like two nodes on a network file system: neither cache knows what the other holds.
//   writeback_mount FOLDER MOUNTPOINT -f
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static char root[PATH_MAX];
#define REAL(name, path)        \
  char name[2 * PATH_MAX];      \
  snprintf(name, sizeof name, "%s%s", root, path)
#define ANSWER(call) return (call) < 0 ? -errno : 0

static void* start(struct fuse_conn_info* connection, struct fuse_config* config) {
  connection->want |= connection->capable & FUSE_CAP_WRITEBACK_CACHE;
  connection->want &= ~FUSE_CAP_AUTO_INVAL_DATA;
  config->use_ino = 1;
  config->attr_timeout = config->entry_timeout = 1;
  config->negative_timeout = 0;
  return NULL;
}
static int get_attributes(const char* path, struct stat* status, struct fuse_file_info* file) {
  if (file != NULL) ANSWER(fstat((int)file->fh, status));
  REAL(real, path);
  ANSWER(lstat(real, status));
}
static int set_mode(const char* path, mode_t mode, struct fuse_file_info* file) {
  (void)file;
  REAL(real, path);
  ANSWER(chmod(real, mode));
}
static int set_times(const char* path, const struct timespec times[2], struct fuse_file_info* file) {
  (void)file;
  REAL(real, path);
  ANSWER(utimensat(AT_FDCWD, real, times, AT_SYMLINK_NOFOLLOW));
}
static int set_size(const char* path, off_t size, struct fuse_file_info* file) {
  if (file != NULL) ANSWER(ftruncate((int)file->fh, size));
  REAL(real, path);
  ANSWER(truncate(real, size));
}
/// The kernel reads pages that are written in part, so every file is open for both; it minds the end itself.
static int flags_for(int flags) {
  if ((flags & O_ACCMODE) == O_WRONLY) flags = (flags & ~O_ACCMODE) | O_RDWR;
  return flags & ~(O_APPEND | O_DIRECT);
}
static int open_file(const char* path, struct fuse_file_info* file) {
  REAL(real, path);
  const int descriptor = open(real, flags_for(file->flags));
  if (descriptor < 0) return -errno;
  file->fh = (uint64_t)descriptor;
  return 0;
}
static int create_file(const char* path, mode_t mode, struct fuse_file_info* file) {
  REAL(real, path);
  const int descriptor = open(real, flags_for(file->flags) | O_CREAT, mode);
  if (descriptor < 0) return -errno;
  file->fh = (uint64_t)descriptor;
  return 0;
}
static int read_file(const char* path, char* to, size_t size, off_t at, struct fuse_file_info* file) {
  (void)path;
  const ssize_t got = pread((int)file->fh, to, size, at);
  return got < 0 ? -errno : (int)got;
}
static int write_file(const char* path, const char* from, size_t size, off_t at, struct fuse_file_info* file) {
  (void)path;
  const ssize_t put = pwrite((int)file->fh, from, size, at);
  return put < 0 ? -errno : (int)put;
}
static int release_file(const char* path, struct fuse_file_info* file) {
  (void)path;
  close((int)file->fh);
  return 0;
}
static int sync_file(const char* path, int data_only, struct fuse_file_info* file) {
  (void)path;
  ANSWER(data_only ? fdatasync((int)file->fh) : fsync((int)file->fh));
}
static int reserve(const char* path, int mode, off_t at, off_t size, struct fuse_file_info* file) {
  (void)path;
  ANSWER(fallocate((int)file->fh, mode, at, size));
}
/// Locks of two mounts meet in the folder, so they keep one another out as on a network file system.
static int lock_file(const char* path, struct fuse_file_info* file, int command, struct flock* region) {
  (void)path;
  region->l_pid = 0;
  const int here = command == F_GETLK ? F_OFD_GETLK : F_OFD_SETLK;
  ANSWER(fcntl((int)file->fh, here, region));
}
static int rename_file(const char* from, const char* to, unsigned flags) {
  REAL(real_from, from);
  REAL(real_to, to);
  ANSWER(renameat2(AT_FDCWD, real_from, AT_FDCWD, real_to, flags));
}
static int link_file(const char* from, const char* to) {
  REAL(real_from, from);
  REAL(real_to, to);
  ANSWER(link(real_from, real_to));
}
static int unlink_file(const char* path) {
  REAL(real, path);
  ANSWER(unlink(real));
}
static int make_folder(const char* path, mode_t mode) {
  REAL(real, path);
  ANSWER(mkdir(real, mode));
}
static int remove_folder(const char* path) {
  REAL(real, path);
  ANSWER(rmdir(real));
}
static int read_folder(const char* path, void* to, fuse_fill_dir_t add, off_t at, struct fuse_file_info* file,
                       enum fuse_readdir_flags flags) {
  (void)at;
  (void)file;
  (void)flags;
  REAL(real, path);
  DIR* const folder = opendir(real);
  if (folder == NULL) return -errno;
  for (struct dirent* entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    add(to, entry->d_name, NULL, 0, 0);
  }
  closedir(folder);
  return 0;
}
static int sync_folder(const char* path, int data_only, struct fuse_file_info* file) {
  (void)path;
  (void)data_only;
  (void)file;
  return 0;
}
static int file_system(const char* path, struct statvfs* status) {
  REAL(real, path);
  ANSWER(statvfs(real, status));
}

int main(int count, char** words) {
  if (count < 3 || realpath(words[1], root) == NULL) return 2;
  const struct fuse_operations operations = {
      .init = start, .getattr = get_attributes, .chmod = set_mode, .utimens = set_times, .truncate = set_size,
      .open = open_file, .create = create_file, .read = read_file, .write = write_file, .release = release_file,
      .fsync = sync_file, .fallocate = reserve, .lock = lock_file, .rename = rename_file, .link = link_file,
      .unlink = unlink_file, .mkdir = make_folder, .rmdir = remove_folder, .readdir = read_folder,
      .fsyncdir = sync_folder, .statfs = file_system};
  words[1] = words[0];
  return fuse_main(count - 1, words + 1, &operations, NULL);
}
