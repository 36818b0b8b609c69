// SPDX-License-Identifier: MIT
#include "lox/base/stop.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>

namespace lox {
namespace {

std::atomic<int> urgency{0};
static_assert(std::atomic<int>::is_always_lock_free, "the handler must be async-signal-safe");

extern "C" void raise_urgency(int) { urgency.fetch_add(1); }

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = raise_urgency;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM}) sigaction(signal, &action, nullptr);
}

int stop_urgency() { return urgency.load(); }

void request_stop(int wanted) {
  int seen = urgency.load();
  while (seen < wanted && !urgency.compare_exchange_weak(seen, wanted)) {
  }
}

}  // namespace lox
