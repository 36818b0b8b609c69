// SPDX-License-Identifier: MIT
#pragma once
#include <hdf5.h>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace lox {

/// Held around all calls of the HDF5 library, which knows no threads; its own printing of errors is off then.
class Hdf5Lock {
 public:
  Hdf5Lock();

 private:
  std::unique_lock<std::mutex> lock_;
};

/// A failed call of the HDF5 library: its name and the library's own error stack, on one line.
struct Hdf5Error : std::runtime_error {
  explicit Hdf5Error(const char* call);
};

/// Returns what an HDF5 call returned, or throws if that is negative.
template <class T>
T hdf5_check(T result, const char* call) {
  if (result < 0) throw Hdf5Error(call);
  return result;
}

/// An identifier of the HDF5 library with its way to be closed; empty (below zero) after a move.
class Hdf5Handle {
 public:
  using Closer = herr_t (*)(hid_t);

  /// Takes ownership of what `call` returned, or throws if that is negative.
  Hdf5Handle(hid_t id, Closer closer, const char* call) : id_(hdf5_check(id, call)), close_(closer) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  Hdf5Handle(const Hdf5Handle&) = delete;
  Hdf5Handle& operator=(const Hdf5Handle&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }

  hid_t get() const { return id_; }
  /// Closes now, and throws if that fails: a file that was written is only whole after this.
  void close() { hdf5_check(close_(std::exchange(id_, -1)), "closing"); }

 private:
  hid_t id_;
  Closer close_;
};

}  // namespace lox
