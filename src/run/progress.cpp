// SPDX-License-Identifier: MIT
#include "lox/run/progress.hpp"

#include "lox/base/stop.hpp"
#include "lox/base/units.hpp"

#include <algorithm>
#include <array>
#include <thread>
#include <unistd.h>

namespace lox {
namespace {

using std::chrono::steady_clock;

constexpr int tag = 1001;
constexpr auto between_messages = std::chrono::milliseconds(500);
constexpr auto between_live_lines = std::chrono::milliseconds(200);
constexpr auto between_log_lines = std::chrono::seconds(5);

/// A message: bytes and items done since the last one, urgency, 1 if it is the sender's last.
using Message = std::array<std::int64_t, 4>;

double seconds(steady_clock::duration span) {
  return std::chrono::duration<double>(span).count();
}

}  // namespace

RankProgress::RankProgress(const Comm& comm, const Log& log, Counts total, Counts done)
    : comm_(comm),
      log_(log),
      total_(total),
      earlier_(done),
      start_(steady_clock::now()),
      sent_(start_),
      printed_(start_),
      live_(isatty(STDERR_FILENO) != 0) {}

void RankProgress::update(Counts mine) {
  mine_ = mine;
  urgency_ = std::max(urgency_, lox::stop_urgency());
  receive();
  const auto now = steady_clock::now();
  if (urgency_ > urgency_sent_ || (!comm_.is_root() && now - sent_ >= between_messages)) send(false);
  if (comm_.is_root() &&
      now - printed_ >= (live_ ? steady_clock::duration(between_live_lines) : between_log_lines)) {
    print(false);
  }
}

void RankProgress::send(bool last) {
  Message message{static_cast<std::int64_t>(mine_.bytes - sent_counts_.bytes),
                  mine_.items - sent_counts_.items, urgency_, last ? 1 : 0};
  urgency_sent_ = urgency_;
  sent_ = steady_clock::now();
  const auto send_to = [&](int rank) {
    check_mpi(MPI_Send(message.data(), static_cast<int>(message.size()), MPI_INT64_T, rank, tag, comm_.get()),
              "MPI_Send");
  };
  if (!comm_.is_root()) {
    sent_counts_ = mine_;
    send_to(0);
    return;
  }
  for (int rank = 1; rank < comm_.size(); ++rank) {
    send_to(rank);
  }
}

void RankProgress::receive() {
  for (;;) {
    int waiting = 0;
    MPI_Status status;
    check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm_.get(), &waiting, &status), "MPI_Iprobe");
    if (waiting == 0) return;
    Message message{};
    check_mpi(MPI_Recv(message.data(), static_cast<int>(message.size()), MPI_INT64_T, status.MPI_SOURCE, tag,
                       comm_.get(), MPI_STATUS_IGNORE),
              "MPI_Recv");
    urgency_ = std::max(urgency_, static_cast<int>(message[2]));
    if (comm_.is_root()) {
      others_.bytes += static_cast<std::uint64_t>(message[0]);
      others_.items += message[1];
      finished_ += static_cast<int>(message[3]);
    } else {
      urgency_sent_ = urgency_;  // it came from rank 0, which knows
    }
  }
}

void RankProgress::finish(Counts mine) {
  update(mine);
  if (!comm_.is_root()) send(true);
  while (comm_.is_root() && finished_ + 1 < comm_.size()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    update(mine);
  }
  // Nobody sends after this but rank 0 by now; its last messages are taken here.
  comm_.barrier();
  receive();
  comm_.barrier();
  if (comm_.is_root()) print(true);
}

std::string progress_line(Counts total, Counts earlier, Counts now, double seconds, bool last) {
  const auto bytes = static_cast<double>(now.bytes);
  const double done = static_cast<double>(earlier.bytes) + bytes;
  const double all = std::max(1.0, static_cast<double>(total.bytes));
  const std::string left = bytes > 0 ? format_seconds((all - done) / bytes * seconds) + " left" : "";
  return fmt::format("{:3.0f}%  {}/{} tensors  {} of {}  {}/s  {}", 100 * done / all,
                     earlier.items + now.items, total.items, format_bytes(done), format_bytes(all),
                     format_bytes(bytes / std::max(seconds, 1e-3)),
                     last ? "in " + format_seconds(seconds) : left);
}

void RankProgress::print(bool last) {
  printed_ = steady_clock::now();
  if (!log_.speaks()) return;
  const Counts now{mine_.bytes + others_.bytes, mine_.items + others_.items};
  const std::string line = progress_line(total_, earlier_, now, seconds(printed_ - start_), last);
  if (!live_) {
    log_.info("{}", line);
  } else {
    fmt::print(stderr, "\r\033[Klox: {}{}", line, last ? "\n" : "");
    std::fflush(stderr);
  }
}

}  // namespace lox
