# SPDX-License-Identifier: MIT
"""What lox costs, next to copying the same bytes and to other ways of getting the same result."""
