// llama.cpp's vocabulary for Rust: every call that can throw is caught here and becomes a code and a message.
// No state of its own; any thread may call it with a vocabulary that outlives the call.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <utility>

#include "llama.h"
#include "shim.h"

namespace {

enum : int32_t {
    CLLM_THREW = -1,      // a C++ exception; `err` holds what it said
    CLLM_REFUSED = -2,    // an argument that llama.cpp would abort on
};

void say(char * err, size_t err_bytes, const char * what) {
    if (err_bytes > 0) {
        snprintf(err, err_bytes, "%s", what);
    }
}

template <typename F> auto guarded(char * err, size_t err_bytes, decltype(std::declval<F>()()) failed, F && body) {
    try {
        return body();
    } catch (const std::exception & e) {
        say(err, err_bytes, e.what());
    } catch (...) {
        say(err, err_bytes, "unknown C++ exception");
    }
    return failed;
}

} // namespace

extern "C" {

// The vocabulary of the GGUF at `place` and nothing else of it. Null on failure.
llama_model * cllm_vocab_load(const cllm_place * place, char * err, size_t err_bytes) {
    return guarded(err, err_bytes, (llama_model *) nullptr, [&]() -> llama_model * {
        llama_model_params params = llama_model_default_params();
        params.vocab_only = true;
        params.n_gpu_layers = 0;
        llama_model * model = cllm_load_at(place, params);
        if (model == nullptr) {
            say(err, err_bytes, "llama.cpp can't load its vocabulary");
            return nullptr;
        }
        if (llama_vocab_type(llama_model_get_vocab(model)) == LLAMA_VOCAB_TYPE_NONE) {
            say(err, err_bytes, "it holds no vocabulary");
            llama_model_free(model);
            return nullptr;
        }
        return model;
    });
}

// Writes at most `max` ids. Returns how many there are, which may be more than `max` (then nothing is written), or a
// negative code.
int32_t cllm_vocab_tokenize(const llama_vocab * vocab, const char * text, int32_t bytes, int32_t * out, int32_t max,
                            bool add_special, bool parse_special, char * err, size_t err_bytes) {
    return guarded(err, err_bytes, (int32_t) CLLM_THREW, [&]() -> int32_t {
        if (add_special) {
            const enum llama_vocab_type type = llama_vocab_type(vocab);
            const bool wants_bos = llama_vocab_get_add_bos(vocab) || type == LLAMA_VOCAB_TYPE_WPM;
            if (type != LLAMA_VOCAB_TYPE_RWKV && wants_bos && llama_vocab_bos(vocab) == LLAMA_TOKEN_NULL) {
                say(err, err_bytes, "the vocabulary asks for a BOS token and has none");
                return CLLM_REFUSED;
            }
            if (type != LLAMA_VOCAB_TYPE_RWKV && llama_vocab_get_add_eos(vocab) &&
                llama_vocab_eos(vocab) == LLAMA_TOKEN_NULL) {
                say(err, err_bytes, "the vocabulary asks for an EOS token and has none");
                return CLLM_REFUSED;
            }
            if (type == LLAMA_VOCAB_TYPE_WPM && llama_vocab_sep(vocab) == LLAMA_TOKEN_NULL) {
                say(err, err_bytes, "the vocabulary has no SEP token");
                return CLLM_REFUSED;
            }
        }
        const int32_t n = llama_tokenize(vocab, text, bytes, out, max, add_special, parse_special);
        if (n == INT32_MIN) {
            say(err, err_bytes, "more tokens than can be counted");
            return CLLM_REFUSED;
        }
        return n < 0 ? -n : n;
    });
}

// Writes at most `max` bytes. Returns how many the token has, which may be more than `max`, or a negative code.
int32_t cllm_vocab_piece(const llama_vocab * vocab, int32_t token, char * out, int32_t max, bool special, char * err,
                         size_t err_bytes) {
    return guarded(err, err_bytes, (int32_t) CLLM_THREW, [&]() -> int32_t {
        if (token < 0 || token >= llama_vocab_n_tokens(vocab)) {
            say(err, err_bytes, "no such token");
            return CLLM_REFUSED;
        }
        const int32_t n = llama_token_to_piece(vocab, token, out, max, 0, special);
        return n < 0 ? -n : n;
    });
}

} // extern "C"
