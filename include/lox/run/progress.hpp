// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/log.hpp"
#include "lox/base/mpi.hpp"

#include <chrono>
#include <cstdint>

namespace lox {

/// How much of a run is done.
struct Counts {
  std::uint64_t bytes = 0;
  std::int64_t items = 0;
};

/// Learns how far a run is, and is asked whether it should end early.
class Progress {
 public:
  virtual ~Progress() = default;
  /// This rank's counts so far. Cheap enough to be called often.
  virtual void update(Counts mine) = 0;
  /// The urgency of the wish to stop, of any rank (see base/stop).
  virtual int stop_urgency() const = 0;
};

/// What all ranks have done, shown on rank 0: a live line on a terminal, a plain line every few seconds in a
/// log file. Ranks send their counts in small messages that rank 0 takes when it comes by; nobody waits. The
/// same messages carry the wish to stop, so that a signal that reaches one rank stops all.
class RankProgress final : public Progress {
 public:
  /// `total` and what earlier runs have `done` already, of all ranks.
  RankProgress(const Comm& comm, const Log& log, Counts total, Counts done);

  void update(Counts mine) override;
  int stop_urgency() const override { return urgency_; }
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
  int urgency_sent_ = 0;  ///< the urgency that others know from us
  int finished_ = 0;      ///< ranks that will send no more, on rank 0
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point sent_;
  std::chrono::steady_clock::time_point printed_;
  Counts sent_counts_;
  bool live_ = false;
};

/// A line about what is done: share, items, bytes, speed, and the time that is left, or that passed if
/// `last`.
std::string progress_line(Counts total, Counts earlier, Counts now, double seconds, bool last);

}  // namespace lox
