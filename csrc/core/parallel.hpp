// A small pool of threads that sleep while there is nothing to do.
//
// Work is cut into chunks of `grain` items; every chunk goes to exactly one call of the body, with
// the index of the worker that runs it (0 is the caller). Chunks write to disjoint places, so results
// do not depend on which worker takes which chunk. A call from inside a body, or while another
// thread's call is under way, runs its chunks itself: there is never more than one team.
#pragma once

#include <cstdint>
#include <functional>

namespace hashfold {

using ChunkBody = std::function<void(int64_t begin, int64_t end, int worker)>;

int num_threads();
void set_num_threads(int count);

// Chunks are handed out as workers become free. For rows of uneven cost.
void parallel_chunks(int64_t count, int64_t grain, const ChunkBody& body);

// One contiguous span a worker, the same for the same thread count: for per-worker sums, whose
// result must not change from run to run. Spans are multiples of `grain` but for the last.
void parallel_spans(int64_t count, int64_t grain, const ChunkBody& body);

}  // namespace hashfold
