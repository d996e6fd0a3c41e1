// Attention over cached keys and values on an x86-64 CPU, in the place of ggml's own (GGML_OP_FLASH_ATTN_EXT).
//
// ggml has two ways: a tile of 64 tokens that see one text, and one token at a time. Between them lies all that a server
// does: a few tokens of each of several texts, and a short piece of a prompt beside them. There ggml's cost of a token is
// several times that of the tile, cells that a token may not see cost nearly as much as those it does, and heads that share
// a key read it once each. Here
//
// - a cell that no token of a block may see costs nothing: a list of those that some token sees is made first, once for all
//   heads and layers. So sequences can lie in one buffer, and their rows be decoded in one pass over the weights;
// - all heads of a group pass over a key together, and with them all tokens of the block;
// - sums are kept in 32 bits; ggml keeps them in 16 where it goes one by one;
// - a token's result has the same bits whatever tokens are computed with it, and wherever its cells lie: it sums over them in
//   the order of their positions (`blocks.h`). Both ways below, for few rows and for many, therefore add in the same order.
//
// The softmax is computed as the scores come (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax";
// Dao et al. 2022, "FlashAttention"). build.rs has the linker put this before ggml's function, and compiles it only for
// CPUs with AVX2, FMA, F16C and BMI2; `describe` says what it leaves to ggml.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "../kernels/ggml_inside.h"
#include "shares.h"

extern "C" {

void __real_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst);
void cllm_attention_leave_to_ggml(bool leave);
bool cllm_attention_is_inexact(void);
}

namespace cllm::attention {

namespace {

// ORDERING: Relaxed. Benches write it between runs.
std::atomic<bool> left_to_ggml{false};
// ORDERING: Relaxed. Set by compute threads before a decode ends, read after it.
std::atomic<bool> inexact{false};

// Whether this is done here. ggml does: anything but 32-bit queries over 16-bit keys and values, head sizes that fill no
// vectors, positions that weigh on scores (ALiBi: its masks hold more than 0 and minus infinity), masks of single heads, and
// groups of more heads than a block has rows.
bool describe(const ggml_compute_params * params, ggml_tensor * dst, Problem & p) {
    p.q     = dst->src[0];
    p.k     = dst->src[1];
    p.v     = dst->src[2];
    p.mask  = dst->src[3];
    p.sinks = dst->src[4];
    p.dst   = dst;
    if (params->use_ref || p.mask == nullptr || left_to_ggml.load(std::memory_order_relaxed)) {
        return false;
    }
    float max_bias;
    memcpy(&p.scale, (const float *) dst->op_params + 0, sizeof(float));
    memcpy(&max_bias, (const float *) dst->op_params + 1, sizeof(float));
    memcpy(&p.softcap, (const float *) dst->op_params + 2, sizeof(float));
    if (p.softcap != 0) {
        p.scale /= p.softcap;
    }
    p.dk       = p.k->ne[0];
    p.dv       = p.v->ne[0];
    p.tokens   = p.q->ne[1];
    p.heads    = p.q->ne[2];
    p.streams  = p.q->ne[3];
    p.cells    = p.k->ne[1];
    p.kv_heads = p.k->ne[2];
    p.group    = p.heads / p.kv_heads;
    p.parts    = 1;

    const bool types   = p.q->type == GGML_TYPE_F32 && p.k->type == GGML_TYPE_F16 && p.v->type == GGML_TYPE_F16 &&
                       p.mask->type == GGML_TYPE_F16 && dst->type == GGML_TYPE_F32;
    const bool strides = p.q->nb[0] == sizeof(float) && p.k->nb[0] == sizeof(half) && p.v->nb[0] == sizeof(half) &&
                         p.mask->nb[0] == sizeof(half) && dst->nb[0] == sizeof(float);
    const bool shapes  = p.dk % 16 == 0 && p.dv % 16 == 0 && p.v->ne[2] == p.kv_heads && p.heads % p.kv_heads == 0 &&
                        p.k->ne[3] == p.streams && p.v->ne[3] == p.streams && p.mask->ne[2] == 1 && p.group <= ROWS_MAX;
    if (!types || !strides || !shapes || max_bias != 0 || params->wsize < work_size(p, params->nth)) {
        return false;
    }
    while (p.parts < p.group && (p.group % p.parts != 0 || p.streams * p.tokens * p.kv_heads * p.parts < params->nth)) {
        p.parts++;
    }
    p.kv_heads *= p.parts;
    p.group /= p.parts;
    return true;
}

}  // namespace

}  // namespace cllm::attention

void __wrap_ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * dst) {
    using namespace cllm::attention;
    Problem p;
    if (describe(params, dst, p)) {
        compute(*params, p);
        if (lacked_positions()) {
            inexact.store(true, std::memory_order_relaxed);
        }
    } else {
        inexact.store(true, std::memory_order_relaxed);
        __real_ggml_compute_forward_flash_attn_ext(params, dst);
    }
}

void cllm_attention_leave_to_ggml(bool leave) {
    cllm::attention::left_to_ggml.store(leave, std::memory_order_relaxed);
}

bool cllm_attention_is_inexact(void) {
    return cllm::attention::inexact.load(std::memory_order_relaxed);
}
