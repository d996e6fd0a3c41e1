// At which position of its text each cell of a KV cache lies. llama.cpp says so to no operation: a mask only says which cells a
// token sees. So its two calls that fill a step's inputs are overheard (the linker's --wrap): one says into which cells the step's
// tokens go, whose positions stand beside it; the other that a mask is for the same cache.
//
// A cell's position changes only when a step writes it, or when its state is restored. After that all positions are read anew from
// the cache's own books (llama_kv_cells). What removes or shares cells leaves positions as they are, and a cell
// that no token sees may keep an old one.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "ggml.h"

namespace cllm::attention {

// What a cell that no step has written has for a position.
constexpr int32_t UNKNOWN = -1;

// One KV cache.
struct Cache {
    // Of all streams' cells, one stream behind the other. Cells beyond its end are unknown.
    std::vector<int32_t> positions;
    // The thread that decodes over it.
    std::thread::id writer;
    // Cells of a stream where there are several, else 0.
    // ORDERING: Relaxed. Compute threads write what never changes; the decoding thread reads it after they are done.
    std::atomic<int64_t> stream_cells{0};
    // Restores after which `positions` were last read from the cache's own books.
    uint64_t restores_seen = 0;
};

// A mask as the current step has filled it.
struct Mask {
    // Counts all masks that were filled: another number, another content. 0: no step filled it.
    uint64_t number = 0;
    Cache *  cache  = nullptr;
};

// The mask whose numbers lie at `data`. Called by compute threads.
Mask mask_at(const void * data);

}  // namespace cllm::attention
