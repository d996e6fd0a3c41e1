// Asks, before anything else of this program runs, whether the CPU has the instruction sets it was compiled for. What
// comes later, static constructors included, may use them and would end in SIGILL: instead there is one line and exit
// code 1.
//
// build.rs compiles this file alone for the oldest x86-64, and stamps it with what rustc was told: CLLM_CPU is its
// `target-cpu`, CLLM_CPU_FEATURES the names of the instruction sets, with commas. llama.cpp is compiled for the same CPU.
// (With `native` gcc may find AMX where rustc names none; ggml asks for that itself before it uses it.)

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// `cllm bundle` reads this section, of this program and of others: both texts, each ended by NUL.
__attribute__((section(".cllm_cpu"), used)) const char cllm_cpu_stamp[] = CLLM_CPU "\0" CLLM_CPU_FEATURES;

const char * cllm_cpu(void) {
    return cllm_cpu_stamp;
}

const char * cllm_cpu_features(void) {
    return cllm_cpu_stamp + sizeof(CLLM_CPU);
}

#if defined(__x86_64__) && defined(__ELF__)

#include <cpuid.h>
#include <unistd.h>

enum reg { EAX, EBX, ECX, EDX };

// What the system must save when it switches threads (XCR0): the upper halves of 256-bit registers, and all of AVX-512.
enum state { NONE = 0, AVX = 0x6, AVX512 = 0xe6 };

static const struct feature {
    const char * name;
    unsigned leaf, subleaf;
    enum reg reg;
    int bit;
    enum state state;
} features[] = {
    {"fxsr", 1, 0, EDX, 24, NONE},
    {"sse", 1, 0, EDX, 25, NONE},
    {"sse2", 1, 0, EDX, 26, NONE},
    {"sse3", 1, 0, ECX, 0, NONE},
    {"pclmulqdq", 1, 0, ECX, 1, NONE},
    {"ssse3", 1, 0, ECX, 9, NONE},
    {"fma", 1, 0, ECX, 12, AVX},
    {"cmpxchg16b", 1, 0, ECX, 13, NONE},
    {"sse4.1", 1, 0, ECX, 19, NONE},
    {"sse4.2", 1, 0, ECX, 20, NONE},
    {"movbe", 1, 0, ECX, 22, NONE},
    {"popcnt", 1, 0, ECX, 23, NONE},
    {"aes", 1, 0, ECX, 25, NONE},
    {"xsave", 1, 0, ECX, 26, NONE},
    {"avx", 1, 0, ECX, 28, AVX},
    {"f16c", 1, 0, ECX, 29, AVX},
    {"rdrand", 1, 0, ECX, 30, NONE},
    {"bmi1", 7, 0, EBX, 3, NONE},
    {"avx2", 7, 0, EBX, 5, AVX},
    {"bmi2", 7, 0, EBX, 8, NONE},
    {"rtm", 7, 0, EBX, 11, NONE},
    {"avx512f", 7, 0, EBX, 16, AVX512},
    {"avx512dq", 7, 0, EBX, 17, AVX512},
    {"rdseed", 7, 0, EBX, 18, NONE},
    {"adx", 7, 0, EBX, 19, NONE},
    {"avx512ifma", 7, 0, EBX, 21, AVX512},
    {"avx512cd", 7, 0, EBX, 28, AVX512},
    {"sha", 7, 0, EBX, 29, NONE},
    {"avx512bw", 7, 0, EBX, 30, AVX512},
    {"avx512vl", 7, 0, EBX, 31, AVX512},
    {"avx512vbmi", 7, 0, ECX, 1, AVX512},
    {"avx512vbmi2", 7, 0, ECX, 6, AVX512},
    {"gfni", 7, 0, ECX, 8, NONE},
    {"vaes", 7, 0, ECX, 9, AVX},
    {"vpclmulqdq", 7, 0, ECX, 10, AVX},
    {"avx512vnni", 7, 0, ECX, 11, AVX512},
    {"avx512bitalg", 7, 0, ECX, 12, AVX512},
    {"avx512vpopcntdq", 7, 0, ECX, 14, AVX512},
    {"avx512vp2intersect", 7, 0, EDX, 8, AVX512},
    {"avx512fp16", 7, 0, EDX, 23, AVX512},
    {"sha512", 7, 1, EAX, 0, AVX},
    {"sm3", 7, 1, EAX, 1, AVX},
    {"sm4", 7, 1, EAX, 2, AVX},
    {"avxvnni", 7, 1, EAX, 4, AVX},
    {"avx512bf16", 7, 1, EAX, 5, AVX512},
    {"avxifma", 7, 1, EAX, 23, AVX},
    {"avxvnniint8", 7, 1, EDX, 4, AVX},
    {"avxneconvert", 7, 1, EDX, 5, AVX},
    {"avxvnniint16", 7, 1, EDX, 10, AVX},
    {"xsaveopt", 0xd, 1, EAX, 0, NONE},
    {"xsavec", 0xd, 1, EAX, 1, NONE},
    {"xsaves", 0xd, 1, EAX, 3, NONE},
    {"lahfsahf", 0x80000001, 0, ECX, 0, NONE},
    {"lzcnt", 0x80000001, 0, ECX, 5, NONE},
    {"sse4a", 0x80000001, 0, ECX, 6, NONE},
    {"xop", 0x80000001, 0, ECX, 11, AVX},
    {"fma4", 0x80000001, 0, ECX, 16, AVX},
    {"tbm", 0x80000001, 0, ECX, 21, NONE},
};

static const struct feature * find(const char * name, size_t bytes) {
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        if (strncmp(features[i].name, name, bytes) == 0 && features[i].name[bytes] == '\0') {
            return &features[i];
        }
    }
    return NULL;
}

// The registers' state that the system saves; 0 where it saves none by XSAVE.
static unsigned saved_state(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) {
        return 0;
    }
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    return eax;
}

static bool is_here(const struct feature * feature) {
    unsigned regs[4];
    if (!__get_cpuid_count(feature->leaf, feature->subleaf, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX])) {
        return false;
    }
    return (regs[feature->reg] >> feature->bit & 1) && (saved_state() & feature->state) == feature->state;
}

// A line put together without the C library's formatting, which isn't ready yet.
struct line {
    char text[1024];
    size_t bytes;
};

static void append(struct line * line, const char * text, size_t bytes) {
    if (bytes < sizeof(line->text) - line->bytes) {
        memcpy(line->text + line->bytes, text, bytes);
        line->bytes += bytes;
    }
}

static void say(struct line * line, const char * text) {
    append(line, text, strlen(text));
}

static void check(void) {
    struct line line = {.bytes = 0};
    const char * name = cllm_cpu_features();
    while (*name != '\0') {
        const size_t bytes = strcspn(name, ",");
        const struct feature * feature = find(name, bytes);
        if (feature != NULL && !is_here(feature)) {
            say(&line, line.bytes == 0 ? "cllm: this CPU lacks " : ", ");
            append(&line, name, bytes);
        }
        name += bytes + (name[bytes] == ',');
    }
    if (line.bytes == 0) {
        return;
    }
    if (strcmp(cllm_cpu(), "native") == 0) {
        say(&line, "; this program was compiled for the CPU of one machine, `make portable` compiles it for most\n");
    } else {
        say(&line, "; this program was compiled for ");
        say(&line, cllm_cpu());
        say(&line, "\n");
    }
    const ssize_t written = write(STDERR_FILENO, line.text, line.bytes);
    (void) written;
    _exit(1);
}

// Runs before the constructors of the libraries and of this program.
__attribute__((section(".preinit_array"), used)) static void (*const check_first)(void) = check;

// Whether a name of CLLM_CPU_FEATURES is checked at all.
bool cllm_cpu_checks(const char * name) {
    return find(name, strlen(name)) != NULL;
}

#else

bool cllm_cpu_checks(const char * name) {
    (void) name;
    return true;
}

#endif
