// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"

#include <chrono>
#include <cstdint>

namespace lox {

/// What all ranks have done, told on rank 0: a live line on a terminal, a plain line every few seconds in a
/// log file. Ranks send their counts in small messages that rank 0 takes when it comes by; nobody waits. The
/// same messages carry the wish to stop, so that a signal that reaches one rank stops all.
class Progress {
 public:
  struct Counts {
    std::uint64_t bytes = 0;
    std::int64_t items = 0;
  };

  /// `total` and what earlier runs have `done` already, of all ranks.
  Progress(const Comm& comm, const Log& log, Counts total, Counts done);

  /// This rank's counts so far. Sends, receives, prints; cheap enough to be called often.
  void update(Counts mine);
  /// The urgency of the wish to stop, of any rank (see base/stop).
  int stop_urgency() const { return urgency_; }
  /// Waits until every rank has come here, printing on. Collective.
  void finish(Counts mine);

 private:
  void send(bool last);
  void receive();
  void print(bool last);

  Comm comm_;
  Log log_;
  Counts total_;
  Counts earlier_;
  Counts mine_;
  Counts others_;
  int urgency_ = 0;
  int told_ = 0;      ///< the urgency that others know from us
  int finished_ = 0;  ///< ranks that will send no more, on rank 0
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point sent_;
  std::chrono::steady_clock::time_point printed_;
  Counts sent_counts_;
  bool live_ = false;
};

}  // namespace lox
