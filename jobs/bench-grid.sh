#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Measures matrices solved by all ranks; a part of bench.sh, whose options it takes.
exec bash "$(dirname "${BASH_SOURCE[0]}")/bench.sh" grid "$@"
