# SPDX-License-Identifier: MIT
"""Does low-rank extrapolation protect? Miniature models, trained, hardened by lox, attacked."""
