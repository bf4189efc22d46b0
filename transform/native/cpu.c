// Tells which level of the processor may be used: 1, 3 or 4 for x86-64-v1, -v3 and -v4, 0 for others; and which sources
// the library was compiled from.

#include <stdint.h>

#ifdef SOURCES
__attribute__((visibility("default"))) const char kernel_sources[] = SOURCES;
#endif

#ifdef __x86_64__
static void cpuid(uint32_t leaf, uint32_t sub, uint32_t found[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(found[0]), "=b"(found[1]), "=c"(found[2]), "=d"(found[3])
                     : "a"(leaf), "c"(sub));
}

static int has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }
#endif

__attribute__((visibility("default"))) int32_t cpu_level(void) {
#ifdef __x86_64__
    uint32_t top[4], one[4], seven[4], extended[4], low, high;
    cpuid(0, 0, top);
    if (top[0] < 7) return 1;
    cpuid(1, 0, one);
    cpuid(7, 0, seven);
    cpuid(0x80000000u, 0, extended);
    if (extended[0] < 0x80000001u) return 1;
    cpuid(0x80000001u, 0, extended);
    // SSE3, PCLMUL (in no level, but used), SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX, F16C;
    // LAHF, LZCNT; BMI1, AVX2, BMI2
    if (!has(one[2], 1u | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 |
                         1u << 27 | 1u << 28 | 1u << 29))
        return 1;
    if (!has(extended[2], 1u | 1u << 5) || !has(seven[1], 1u << 3 | 1u << 5 | 1u << 8)) return 1;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!has(low, 6)) return 1;  // the system keeps the registers of AVX
    if (!has(seven[1], 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) || !has(low, 0xE6)) return 3;
    return 4;  // AVX512 F, DQ, CD, BW, VL
#else
    return 0;
#endif
}
