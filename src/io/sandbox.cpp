// SPDX-License-Identifier: MIT
#include "lox/io/sandbox.hpp"

#include "lox/base/error.hpp"
#include "lox/base/site.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <spawn.h>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace lox {
namespace {

constexpr const char* marker = "LOX_IN_SANDBOX";
constexpr int answer_descriptor = 3;
constexpr std::size_t longest_answer = std::size_t{1} << 30;

// ---- the parent

/// Both ends of a pipe, closed at the end.
struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      fail(ExitCode::io, "cannot make a pipe: {}", std::strerror(errno));
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(0);
    close(1);
  }
  void close(std::size_t end) {
    if (ends[end] >= 0) ::close(std::exchange(ends[end], -1));
  }
};

std::string read_answer(int descriptor) {
  std::string text;
  std::array<char, 65536> piece;
  while (text.size() < longest_answer) {
    const ssize_t got = ::read(descriptor, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  return "";
}

/// The environment, but for what makes the start of a program slow: libraries bound whole, threads of the
/// BLAS.
std::vector<std::string> sandbox_environment() {
  static constexpr std::array<std::string_view, 3> replaced{
      "LD_BIND_NOW=", "OPENBLAS_NUM_THREADS=", "OMP_NUM_THREADS="};
  std::vector<std::string> variables{"OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1",
                                     std::string(marker) + "=1"};
  for (char** at = environ; at != nullptr && *at != nullptr; ++at) {
    const std::string_view variable = *at;
    const auto begins = [&](std::string_view name) { return variable.starts_with(name); };
    if (std::none_of(replaced.begin(), replaced.end(), begins)) variables.emplace_back(variable);
  }
  return variables;
}

/// Pointers as exec wants them.
std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// What a new process starts with: the end of the pipe as its answer descriptor, and signals that go to a
/// whole process group or job blocked, since this program has its own way to end by them.
class SpawnSetup {
 public:
  explicit SpawnSetup(int answer) {
    posix_spawn_file_actions_init(&files_);
    posix_spawn_file_actions_adddup2(&files_, answer, answer_descriptor);
    posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    sigset_t blocked;
    sigemptyset(&blocked);
    for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2}) sigaddset(&blocked, signal);
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setsigmask(&attributes_, &blocked);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&files_);
    posix_spawnattr_destroy(&attributes_);
  }
  const posix_spawn_file_actions_t* files() const { return &files_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t files_;
  posix_spawnattr_t attributes_;
};

pid_t start_this_program(std::vector<std::string> words, int answer) {
  std::vector<std::string> environment = sandbox_environment();
  const SpawnSetup setup(answer);
  pid_t child = 0;
  const int reason = ::posix_spawn(&child, "/proc/self/exe", setup.files(), setup.attributes(),
                                   pointers_to(words).data(), pointers_to(environment).data());
  if (reason != 0) fail(ExitCode::io, "cannot start a process: {}", std::strerror(reason));
  return child;
}

// ---- the child

/// Closes what the parent left open, sockets of MPI for one.
void close_inherited_files() {
  for (const int descriptor : open_descriptors()) {
    if (descriptor > answer_descriptor) ::close(descriptor);
  }
}

void set_limit(int resource, rlim_t most) {
  rlimit now{};
  ::getrlimit(static_cast<__rlimit_resource>(resource), &now);
  if (now.rlim_max != RLIM_INFINITY) most = std::min(most, now.rlim_max);
  const rlimit both{most, most};  // the hard one too: what passes it is killed
  ::setrlimit(static_cast<__rlimit_resource>(resource), &both);
}

void limit_this_process(const SandboxLimits& limits) {
  set_limit(RLIMIT_CPU, limits.seconds);
  set_limit(RLIMIT_CORE, 0);
#ifndef __SANITIZE_ADDRESS__  // whose shadow memory is larger than any limit
  set_limit(RLIMIT_AS, address_space() + limits.bytes);
#endif
  // What a crash says (malloc, a sanitizer) is no news: the parent reports it in one line.
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
}

/// "0" and the result, or the number of an exit code and the error's text; ends with a full stop. Empty, as
/// after a crash, where memory ran out.
std::string answer_of(const std::function<std::string()>& work) {
  try {
    return "0 " + work() + ".";
  } catch (const std::bad_alloc&) {
    return "";
  } catch (const Error& error) {
    return fmt::format("{} {}.", static_cast<int>(error.code()), error.what());
  } catch (const std::exception& error) {
    return fmt::format("{} {}.", static_cast<int>(ExitCode::internal), error.what());
  }
}

void write_answer(const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t put = ::write(answer_descriptor, text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // the parent sees a text without its end
    done += static_cast<std::size_t>(put);
  }
}

}  // namespace

std::uint64_t bytes_on_disk(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return 0;
  return std::min(static_cast<std::uint64_t>(status.st_size),
                  static_cast<std::uint64_t>(status.st_blocks) * 512);
}

SandboxLimits sandbox_limits(std::uint64_t bytes) {
  constexpr std::uint64_t gib = std::uint64_t{1} << 30;
  return {std::min<std::uint64_t>(2 + (bytes >> 20), 600), gib + 64 * std::min(bytes, 15 * gib / 64)};
}

std::string run_in_sandbox(const std::string& word, const std::string& argument, const std::string& broken) {
  // A program that does not answer would start itself again and again.
  if (std::getenv(marker) != nullptr)
    fail(ExitCode::internal, "the main of this program does not answer {}", word);
  Pipe pipe;
  const pid_t child = start_this_program({"lox", word, std::to_string(::getpid()), argument}, pipe.ends[1]);
  pipe.close(1);
  std::string answer = read_answer(pipe.ends[0]);
  pipe.close(0);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (!answer.ends_with('.')) fail(ExitCode::bad_input, "{}", broken);
  answer.pop_back();
  const int code = std::atoi(answer.c_str());
  std::string text = answer.substr(answer.find(' ') + 1);
  if (code != 0) throw Error(static_cast<ExitCode>(code), text);
  return text;
}

std::optional<SandboxCall> sandbox_call(const std::string& word, int argc, const char* const* argv) {
  if (argc != 4 || argv[1] != word || std::getenv(marker) == nullptr) return std::nullopt;
  return SandboxCall{std::atoi(argv[2]), argv[3]};
}

int answer_sandbox_call(const SandboxCall& call, const SandboxLimits& limits,
                        const std::function<std::string()>& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != call.parent) return static_cast<int>(ExitCode::stopped);  // it died before that
  close_inherited_files();
  limit_this_process(limits);
  write_answer(answer_of(work));
  return 0;
}

}  // namespace lox
