// What libstdc++, linked statically, would otherwise take from a glibc no older than the one it was compiled with: the
// program then runs with older ones, too. For std::random_device, from glibc 2.36 on.

#include <stdint.h>
#include <stdlib.h>

#if defined(__linux__) && defined(__GLIBC__)

#include <sys/random.h>

// A few bytes come whole or, before the system has any, not at all.
uint32_t arc4random(void) {
    uint32_t number;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) {
        abort();
    }
    return number;
}

#endif
