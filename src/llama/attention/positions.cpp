#include "positions.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

#include "llama.h"

// As llama-batch.h begins it, of llama.cpp as `llama-cpp-sys-2` has it, whose version Cargo.toml fixes.
struct llama_ubatch {
    uint32_t     equal_seqs, n_tokens, n_seq_tokens, n_seqs, n_seqs_unq, n_pos;
    llama_token * token;
    float *       embd;
    llama_pos *   pos;
};

class llama_kv_cache_context;

// As llama-kv-cells.h begins it: the position of each cell of a stream; -1: it is empty.
class llama_kv_cells {
  public:
    bool                   has_shift;
    std::set<uint32_t>     used;
    std::vector<llama_pos> pos;
};

// Two of its methods, as llama-kv-cache.h declares them.
class llama_kv_cache {
  public:
    uint32_t               get_n_stream() const;
    const llama_kv_cells & get_cells(llama_seq_id seq) const;
};

// llama_kv_cache_context's methods as their names are mangled: `self` is the object.
#define SET_K_IDXS(prefix) prefix##_ZNK22llama_kv_cache_context16set_input_k_idxsEP11ggml_tensorPK12llama_ubatch
#define SET_KQ_MASK(prefix) prefix##_ZNK22llama_kv_cache_context17set_input_kq_maskEP11ggml_tensorPK12llama_ubatchb

extern "C" {
void SET_K_IDXS(__real_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch);
void SET_K_IDXS(__wrap_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch);
void SET_KQ_MASK(__real_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch, bool causal);
void SET_KQ_MASK(__wrap_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch, bool causal);
void cllm_attention_stream_copied(int32_t from, int32_t to);
void cllm_attention_cells_restored();
}

namespace cllm::attention {

namespace {

// Positions of one cache, and masks by where their numbers lie. A cache that is freed leaves its positions behind, 4 bytes a cell;
// another one at its address writes each cell before a token sees it.
struct Known {
    std::mutex                                               lock;
    std::unordered_map<const void *, std::unique_ptr<Cache>> caches;
    std::unordered_map<const void *, Mask>                   masks;
    uint64_t                                                 masks_filled = 0;
    uint64_t                                                 restores     = 0;
};

Known & known() {
    static Known one;
    return one;
}

// The cache that a context is about: its third word, behind the table of virtual functions and a status.
const void * cache_of(const llama_kv_cache_context * context) {
    const void * words[3];
    memcpy(words, (const void *) context, sizeof(words));
    return words[2];
}

Cache & cache_at(Known & all, const void * address) {
    auto & cache = all.caches[address];
    if (cache == nullptr) {
        cache = std::make_unique<Cache>();
    }
    return *cache;
}

// Reads the positions of all cells where some may have been restored since this was last done. Only one stream's cells are restored.
void read_restored(Known & all, const void * address, Cache & cache) {
    if (cache.restores_seen == all.restores) {
        return;
    }
    cache.restores_seen = all.restores;
    const auto * kv = (const llama_kv_cache *) address;
    if (kv->get_n_stream() != 1) {
        return;
    }
    const std::vector<llama_pos> & now = kv->get_cells(0).pos;
    cache.positions.resize(std::max(cache.positions.size(), now.size()), UNKNOWN);
    for (size_t i = 0; i < now.size(); i++) {
        if (now[i] >= 0) {
            cache.positions[i] = now[i];
        }
    }
}

void written(const void * address, const ggml_tensor * cells, const llama_ubatch & ubatch) {
    if (cells->type != GGML_TYPE_I64 || cells->ne[0] != (int64_t) ubatch.n_tokens) {
        return;
    }
    Known &                     all = known();
    std::lock_guard<std::mutex> guard(all.lock);
    Cache &                     cache     = cache_at(all, address);
    std::vector<int32_t> &      positions = cache.positions;
    read_restored(all, address, cache);
    const auto *                cell      = (const int64_t *) cells->data;
    cache.writer = std::this_thread::get_id();
    for (uint32_t i = 0; i < ubatch.n_tokens; i++) {
        if ((size_t) cell[i] >= positions.size()) {
            positions.resize((size_t) cell[i] + 1, UNKNOWN);
        }
        positions[(size_t) cell[i]] = ubatch.pos[i];
    }
}

void filled(const void * address, const ggml_tensor * mask) {
    Known &                     all = known();
    std::lock_guard<std::mutex> guard(all.lock);
    all.masks[mask->data] = Mask{++all.masks_filled, &cache_at(all, address)};
}

}  // namespace

Mask mask_at(const void * data) {
    Known &                     all = known();
    std::lock_guard<std::mutex> guard(all.lock);
    const auto                  found = all.masks.find(data);
    return found == all.masks.end() ? Mask{} : found->second;
}

}  // namespace cllm::attention

// A sequence's whole stream was copied over another's, in the caches over which this thread decodes.
void cllm_attention_stream_copied(int32_t from, int32_t to) {
    using namespace cllm::attention;
    Known &                     all = known();
    std::lock_guard<std::mutex> guard(all.lock);
    for (auto & [address, cache] : all.caches) {
        const auto             cells     = (size_t) cache->stream_cells.load(std::memory_order_relaxed);
        std::vector<int32_t> & positions = cache->positions;
        if (cells == 0 || cache->writer != std::this_thread::get_id()) {
            continue;
        }
        positions.resize(std::max(positions.size(), ((size_t) std::max(from, to) + 1) * cells), UNKNOWN);
        std::copy_n(positions.begin() + (ptrdiff_t) ((size_t) from * cells), cells, positions.begin() + (ptrdiff_t) ((size_t) to * cells));
    }
}

// A sequence got cells without a step.
void cllm_attention_cells_restored() {
    using namespace cllm::attention;
    Known &                     all = known();
    std::lock_guard<std::mutex> guard(all.lock);
    all.restores++;
}

void SET_K_IDXS(__wrap_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch) {
    SET_K_IDXS(__real_)(self, dst, ubatch);
    cllm::attention::written(cllm::attention::cache_of(self), dst, *ubatch);
}

void SET_KQ_MASK(__wrap_)(const llama_kv_cache_context * self, ggml_tensor * dst, const llama_ubatch * ubatch, bool causal) {
    SET_KQ_MASK(__real_)(self, dst, ubatch, causal);
    cllm::attention::filled(cllm::attention::cache_of(self), dst);
}
