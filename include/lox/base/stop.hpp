// SPDX-License-Identifier: MIT
#pragma once

namespace lox {

/// Requests to stop early. SIGUSR1, SIGUSR2 and SIGTERM raise a flag, nothing else; the run asks for it at safe points.

/// Installs the handlers. A second signal raises the urgency.
void catch_stop_signals();

/// 0: go on; 1: finish the current item, then stop; 2 and more: drop the current item.
int stop_urgency();

/// Raises the flag without a signal (a wall-clock limit, a test).
void request_stop(int urgency);

}  // namespace lox
