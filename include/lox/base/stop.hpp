// SPDX-License-Identifier: MIT
#pragma once

namespace lox {

/// Requests to stop early. SIGUSR1, SIGUSR2 and SIGTERM raise a flag, nothing else; the run asks for it at
/// safe points.

/// Installs the handlers. A second signal raises the urgency, except SIGUSR2, which may come any number of
/// times: it is for senders that cannot know whether the ranks have got the first one.
void catch_stop_signals();

/// 0: go on; 1: finish the current item, then stop; 2 and more: drop the current item.
int stop_urgency();

/// Thrown where work is dropped because urgency is 2 or more.
struct Stopped {};

/// The wall-clock second (since the epoch) at which the job will be killed; never, unless it is set. Then
/// stop_urgency() rises to 1 so early that the current item, if it takes no longer than the longest so far,
/// can still be finished and the rest be put in order, and to 2 shortly before the end.
void set_deadline(double second);
/// How long an item took.
void note_item_seconds(double seconds);

/// Raises the flag without a signal (a wall-clock limit, a test).
void request_stop(int urgency);
/// As if nothing had been requested: between tests in one process.
void forget_stop();

}  // namespace lox
