// Takes the place of ggml_backend_buffer_clear where llama.cpp calls it (the linker's --wrap). A buffer in the machine's own memory
// that is to become zero gives its whole pages back instead: Linux fills a page with zeros when it is first touched, so a cell of
// the KV cache has no memory behind it until it is used. Elsewhere, and where the kernel refuses (locked pages), all is written as before.

#ifdef __linux__

#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include "ggml-backend.h"

extern "C" {
void __real_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
void __wrap_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
}

void __wrap_ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    const bool is_plain = ggml_backend_buffer_get_type(buffer) == ggml_backend_cpu_buffer_type();
    const size_t size = ggml_backend_buffer_get_size(buffer);
    if (value != 0 || !is_plain || size == 0) {
        __real_ggml_backend_buffer_clear(buffer, value);
        return;
    }
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = reinterpret_cast<uintptr_t>(ggml_backend_buffer_get_base(buffer));
    const uintptr_t end = begin + size;
    const uintptr_t first = (begin + page - 1) / page * page;
    const uintptr_t last = end / page * page;
    // ggml takes this memory from malloc: private and anonymous, of which MADV_DONTNEED leaves zeros.
    if (last <= first || madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED) != 0) {
        __real_ggml_backend_buffer_clear(buffer, value);
        return;
    }
    memset(reinterpret_cast<void *>(begin), 0, first - begin);
    memset(reinterpret_cast<void *>(last), 0, end - last);
}

#endif
