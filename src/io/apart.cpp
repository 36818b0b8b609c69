// SPDX-License-Identifier: MIT
#include "lox/io/apart.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lox {
namespace {

void write_all(int descriptor, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t put = ::write(descriptor, text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // the parent sees a text without its end
    done += static_cast<std::size_t>(put);
  }
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 65536> piece;
  for (;;) {
    const ssize_t got = ::read(descriptor, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
}

void limit(int resource, rlim_t most) {
  rlimit now{};
  ::getrlimit(static_cast<__rlimit_resource>(resource), &now);
  now.rlim_cur = now.rlim_max == RLIM_INFINITY ? most : std::min(most, now.rlim_max);
  ::setrlimit(static_cast<__rlimit_resource>(resource), &now);
}

/// Bytes of address space in use.
[[maybe_unused]] std::uint64_t address_space() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit_child(std::uint64_t seconds, [[maybe_unused]] std::uint64_t bytes) {
  limit(RLIMIT_CPU, seconds);
  limit(RLIMIT_CORE, 0);
#ifndef __SANITIZE_ADDRESS__  // whose shadow memory is larger than any limit
  limit(RLIMIT_AS, address_space() + bytes);
#endif
  // What a crash says (malloc, a sanitizer) is no news: the parent tells of it in one line.
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
}

/// "0" and the result, or the number of an exit code and the error's text; ends with a full stop.
std::string tell(const std::function<std::string()>& work) {
  try {
    return "0 " + work() + ".";
  } catch (const Error& error) {
    return fmt::format("{} {}.", static_cast<int>(error.code()), error.what());
  } catch (const std::exception& error) {
    return fmt::format("{} {}.", static_cast<int>(ExitCode::internal), error.what());
  }
}

}  // namespace

std::string run_apart(const std::function<std::string()>& work, std::uint64_t seconds, std::uint64_t bytes,
                      const std::string& what) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    fail(ExitCode::io, "cannot make a pipe: {}", std::strerror(errno));
  const pid_t child = ::fork();
  if (child < 0) {
    const int reason = errno;
    ::close(ends[0]);
    ::close(ends[1]);
    fail(ExitCode::io, "cannot start a process: {}", std::strerror(reason));
  }
  if (child == 0) {
    limit_child(seconds, bytes);
    write_all(ends[1], tell(work));
    ::_exit(0);  // not exit: what the parent registered to run at its end is not ours to run
  }
  ::close(ends[1]);
  std::string told = read_all(ends[0]);
  ::close(ends[0]);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!told.ends_with('.')) fail(ExitCode::bad_input, "{}", what);
  told.pop_back();
  const std::size_t space = told.find(' ');
  const int code = std::atoi(told.c_str());
  std::string text = told.substr(space + 1);
  if (code != 0) throw Error(static_cast<ExitCode>(code), text);
  return text;
}

}  // namespace lox
