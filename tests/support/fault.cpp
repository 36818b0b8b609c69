// SPDX-License-Identifier: MIT
// Another fault_point, which makes something go wrong where and when LOX_FAULT says:
//   LOX_FAULT=place:rank:count:action[,...]
// at the count-th time (from 1) that this rank passes the place; `*` is any rank, every time. Actions: throw
// (an internal error), eio and enospc (as a failing system call would say), kill (SIGKILL to this process),
// and a number of milliseconds to wait.
#include "lox/base/fault.hpp"

#include "lox/base/error.hpp"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>

#include "launched_rank.hpp"

namespace lox {
namespace {

struct Fault {
  std::string place;
  int count = 0;  ///< 0: every time
  std::string action;
  std::atomic<int> passed{0};
};

/// Those of this rank.
std::deque<Fault> wanted() {
  std::deque<Fault> faults;
  const char* const text = std::getenv("LOX_FAULT");
  std::istringstream all(text == nullptr ? "" : text);
  for (std::string one; std::getline(all, one, ',');) {
    std::istringstream words(one);
    std::string place;
    std::string rank;
    std::string count;
    std::string action;
    std::getline(words, place, ':');
    std::getline(words, rank, ':');
    std::getline(words, count, ':');
    std::getline(words, action);
    if (rank != "*" && std::atoi(rank.c_str()) != launched_rank()) continue;
    Fault& fault = faults.emplace_back();
    fault.place = place;
    fault.count = count == "*" ? 0 : std::atoi(count.c_str());
    fault.action = action;
  }
  return faults;
}

void act(const std::string& action, const char* place) {
  if (action == "kill") {
    ::kill(::getpid(), SIGKILL);
  } else if (action == "enospc" || action == "eio") {
    const int reason = action == "eio" ? EIO : ENOSPC;
    fail(ExitCode::io, "injected fault: cannot {}: {}", place, std::strerror(reason));
  } else if (action == "throw") {
    fail(ExitCode::internal, "injected fault: {}", place);
  } else {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(action.c_str())));
  }
}

}  // namespace

void fault_point(const char* place) {
  static std::deque<Fault> faults = wanted();
  for (Fault& fault : faults) {
    if (fault.place != place) continue;
    const int passed = ++fault.passed;
    if (fault.count == 0 || fault.count == passed) act(fault.action, place);
  }
}

}  // namespace lox
