// SPDX-License-Identifier: MIT
// MPI calls that fail when LOX_MPI_FAULT says so, in place of those that the program makes:
//   LOX_MPI_FAULT=function:rank:n
// makes the n-th call (from 1) of the function on that rank return MPI_ERR_OTHER, with garbage for what it
// should have received. The true call is made first: the other ranks go on as if nothing had happened. With
// LOX_MPI_COUNT=file each rank writes to file.<rank> a line for each place in the code that calls a function:
//   function place first last
// where first and last are the n of the first and of the last call from there.
// Calls that ScaLAPACK and other libraries make are neither counted nor do they fail.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <sstream>
#include <string>

#include "launched_rank.hpp"
#include <mpi.h>

namespace {

constexpr int garbage = 0x5A;

struct Wanted {
  std::string function;
  int n = 0;  ///< 0: none on this rank
};

Wanted wanted() {
  Wanted fault;
  const char* const text = std::getenv("LOX_MPI_FAULT");
  std::istringstream words(text == nullptr ? "" : text);
  std::string rank;
  std::getline(words, fault.function, ':');
  std::getline(words, rank, ':');
  if (std::atoi(rank.c_str()) == launched_rank()) words >> fault.n;
  return fault;
}

std::mutex counting;

struct Place {
  int first = 0;
  int last = 0;
};

struct Calls {
  int n = 0;
  std::map<std::ptrdiff_t, Place> places;  ///< by their distance from the program's begin
};

std::map<std::string, Calls>& all_calls() {
  static std::map<std::string, Calls> calls;
  return calls;
}

/// Where the program or library that holds this address begins.
const char* begin_of(const void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 ? static_cast<const char*>(info.dli_fbase) : nullptr;
}

/// Counts a call and tells whether it is the one that fails.
bool fails(const char* function, const void* caller) {
  static const char* const begin = begin_of(reinterpret_cast<const void*>(&launched_rank));
  if (begin_of(caller) != begin) return false;  // a library's
  static const Wanted fault = wanted();
  const std::scoped_lock lock(counting);
  Calls& calls = all_calls()[function];
  const int n = ++calls.n;
  Place& place = calls.places[static_cast<const char*>(caller) - begin];
  if (place.first == 0) place.first = n;
  place.last = n;
  if (n != fault.n || fault.function != function) return false;
  std::fprintf(stderr, "injected: %s fails\n", function);
  std::fflush(stderr);
  return true;
}

void spoil(void* data, std::size_t count, MPI_Datatype type) {
  int size = 0;
  PMPI_Type_size(type, &size);
  if (data != nullptr && count > 0) std::memset(data, garbage, count * static_cast<std::size_t>(size));
}

void spoil(int* number) {
  std::memset(number, garbage, sizeof *number);
}

bool is_rank(int rank, MPI_Comm comm) {
  int mine = 0;
  PMPI_Comm_rank(comm, &mine);
  return mine == rank;
}

void write_counts() {
  const char* const path = std::getenv("LOX_MPI_COUNT");
  if (path == nullptr) return;
  std::FILE* const file =
      std::fopen((std::string(path) + "." + std::to_string(launched_rank())).c_str(), "w");
  if (file == nullptr) std::abort();
  for (const auto& [function, calls] : all_calls()) {
    for (const auto& [distance, place] : calls.places) {
      std::fprintf(file, "%s %td %d %d\n", function.c_str(), distance, place.first, place.last);
    }
  }
  std::fclose(file);
}

}  // namespace

// What a wrapper returns; `spoiling` is done first if the call is to fail.
#define END_CALL(function, result, spoiling)                         \
  if (!fails(#function, __builtin_return_address(0))) return result; \
  spoiling;                                                          \
  return MPI_ERR_OTHER

extern "C" {

int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  const int result = PMPI_Init_thread(argc, argv, required, provided);
  END_CALL(MPI_Init_thread, result, spoil(provided));
}

int MPI_Initialized(int* flag) {
  const int result = PMPI_Initialized(flag);
  END_CALL(MPI_Initialized, result, *flag = static_cast<int>(*flag == 0));
}

int MPI_Finalized(int* flag) {
  const int result = PMPI_Finalized(flag);
  END_CALL(MPI_Finalized, result, *flag = static_cast<int>(*flag == 0));
}

int MPI_Finalize() {
  const bool fail = fails("MPI_Finalize", __builtin_return_address(0));
  write_counts();
  const int result = PMPI_Finalize();
  return fail ? MPI_ERR_OTHER : result;
}

int MPI_Get_library_version(char* version, int* length) {
  const int result = PMPI_Get_library_version(version, length);
  END_CALL(MPI_Get_library_version, result, std::memset(version, garbage, static_cast<std::size_t>(*length)));
}

int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler) {
  const int result = PMPI_Comm_set_errhandler(comm, handler);
  END_CALL(MPI_Comm_set_errhandler, result, );
}

int MPI_Comm_rank(MPI_Comm comm, int* rank) {
  const int result = PMPI_Comm_rank(comm, rank);
  END_CALL(MPI_Comm_rank, result, spoil(rank));
}

int MPI_Comm_size(MPI_Comm comm, int* size) {
  const int result = PMPI_Comm_size(comm, size);
  END_CALL(MPI_Comm_size, result, spoil(size));
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm* made) {
  const int result = PMPI_Comm_dup(comm, made);
  END_CALL(MPI_Comm_dup, result, *made = MPI_COMM_NULL);
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm* made) {
  const int result = PMPI_Comm_split(comm, color, key, made);
  END_CALL(MPI_Comm_split, result, *made = MPI_COMM_NULL);
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* made) {
  const int result = PMPI_Comm_split_type(comm, type, key, info, made);
  END_CALL(MPI_Comm_split_type, result, *made = MPI_COMM_NULL);
}

int MPI_Comm_free(MPI_Comm* comm) {
  const int result = PMPI_Comm_free(comm);
  END_CALL(MPI_Comm_free, result, );
}

int MPI_Barrier(MPI_Comm comm) {
  const int result = PMPI_Barrier(comm);
  END_CALL(MPI_Barrier, result, );
}

int MPI_Bcast(void* data, int count, MPI_Datatype type, int from, MPI_Comm comm) {
  const int result = PMPI_Bcast(data, count, type, from, comm);
  END_CALL(MPI_Bcast, result, if (!is_rank(from, comm)) spoil(data, static_cast<std::size_t>(count), type));
}

int MPI_Allreduce(const void* from, void* to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
  const int result = PMPI_Allreduce(from, to, count, type, op, comm);
  END_CALL(MPI_Allreduce, result, spoil(to, static_cast<std::size_t>(count), type));
}

int MPI_Gather(const void* from, int count, MPI_Datatype type, void* to, int to_count, MPI_Datatype to_type,
               int root, MPI_Comm comm) {
  const int result = PMPI_Gather(from, count, type, to, to_count, to_type, root, comm);
  END_CALL(
      MPI_Gather, result, if (is_rank(root, comm)) {
        int ranks = 0;
        PMPI_Comm_size(comm, &ranks);
        spoil(to, static_cast<std::size_t>(to_count) * static_cast<std::size_t>(ranks), to_type);
      });
}

int MPI_Gatherv(const void* from, int count, MPI_Datatype type, void* to, const int* to_counts,
                const int* starts, MPI_Datatype to_type, int root, MPI_Comm comm) {
  const int result = PMPI_Gatherv(from, count, type, to, to_counts, starts, to_type, root, comm);
  END_CALL(
      MPI_Gatherv, result, if (is_rank(root, comm)) {
        int ranks = 0;
        PMPI_Comm_size(comm, &ranks);
        std::size_t all = 0;  // lox's pieces touch
        for (int i = 0; i < ranks; ++i) all += static_cast<std::size_t>(to_counts[i]);
        spoil(to, all, to_type);
      });
}

int MPI_Send(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
  const int result = PMPI_Send(data, count, type, to, tag, comm);
  END_CALL(MPI_Send, result, );
}

int MPI_Recv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status* status) {
  const int result = PMPI_Recv(data, count, type, from, tag, comm, status);
  END_CALL(MPI_Recv, result, spoil(data, static_cast<std::size_t>(count), type));
}

int MPI_Iprobe(int from, int tag, MPI_Comm comm, int* waiting, MPI_Status* status) {
  const int result = PMPI_Iprobe(from, tag, comm, waiting, status);
  END_CALL(MPI_Iprobe, result, *waiting = 0);
}

}  // extern "C"
