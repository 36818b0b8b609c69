// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <limits>

namespace lox {
namespace {

std::atomic<int> requested{0};
std::atomic<int> counted{0};   // SIGUSR1, SIGTERM
std::atomic<int> repeated{0};  // SIGUSR2: 1, however often
constexpr double never = std::numeric_limits<double>::infinity();
std::atomic<double> deadline{never};
std::atomic<double> longest_item{0};
constexpr double to_tidy_up = 10;  // seconds to sync, write the journal and leave
static_assert(std::atomic<int>::is_always_lock_free, "the handler must be async-signal-safe");

extern "C" void count_signal(int) {
  counted.fetch_add(1);
}

extern "C" void note_signal(int) {
  repeated = 1;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  action.sa_handler = count_signal;
  for (const int signal : {SIGUSR1, SIGTERM}) sigaction(signal, &action, nullptr);
  action.sa_handler = note_signal;
  sigaction(SIGUSR2, &action, nullptr);
}

void set_deadline(double second) {
  deadline = second;
}

void note_item_seconds(double seconds) {
  double longest = longest_item.load();
  while (longest < seconds && !longest_item.compare_exchange_weak(longest, seconds)) {
  }
}

int stop_urgency() {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const double left = deadline.load() - now;
  if (left < to_tidy_up / 2) {
    request_stop(2);
  } else if (left < to_tidy_up + 1.5 * longest_item.load()) {
    request_stop(1);
  }
  return std::max(requested.load(), counted.load() + repeated.load());
}

void request_stop(int wanted) {
  int seen = requested.load();
  while (seen < wanted && !requested.compare_exchange_weak(seen, wanted)) {
  }
}

void forget_stop() {
  requested = 0;
  counted = 0;
  repeated = 0;
  deadline = never;
  longest_item = 0;
}

}  // namespace lox
