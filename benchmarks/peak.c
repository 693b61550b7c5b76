/* The most int8 multiply-accumulates that one core makes when nothing has to be fetched: the instruction that the
   kernels use, on enough sums that none waits for another. Without such an instruction, what the compiler makes of a
   dot product over bytes that lie in the nearest cache. */
#include <stdint.h>

#if defined(__AVX512VNNI__) || defined(__AVX2__)
#include <immintrin.h>
#if defined(__AVX512VNNI__)
#define KIND "AVX-512 VNNI"
#define WIDTH 64
typedef __m512i vector;
#define FILL _mm512_set1_epi8(3)
#define DOT(sum) sum = _mm512_dpbusd_epi32(sum, a, b)
#else
#define KIND "AVX2"
#define WIDTH 16 /* bytes widened to 16 bits, as exact sums need */
typedef __m256i vector;
#define FILL _mm256_set1_epi16(3)
#define DOT(sum) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#endif
/* To the compiler, which would compute ahead, or once for all, what it knows. */
#define UNKNOWN(x) __asm__ volatile("" : "+x"(x))
#define STEP(sum) UNKNOWN(a); DOT(sum)

int64_t multiply_accumulates(int rounds) {
    vector s0 = FILL, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, a = FILL, b = a;
    int r;
    for (r = 0; r < rounds; r++) {
        STEP(s0); STEP(s1); STEP(s2); STEP(s3); STEP(s4); STEP(s5); STEP(s6); STEP(s7); STEP(s8); STEP(s9);
    }
    UNKNOWN(s0); UNKNOWN(s1); UNKNOWN(s2); UNKNOWN(s3); UNKNOWN(s4);
    UNKNOWN(s5); UNKNOWN(s6); UNKNOWN(s7); UNKNOWN(s8); UNKNOWN(s9);
    return (int64_t)rounds * 10 * WIDTH;
}
#else
#define KIND "plain C"
#define COUNT 4096

int8_t left[COUNT], right[COUNT]; /* not static: nobody knows what is in them */
volatile int32_t seen;

int64_t multiply_accumulates(int rounds) {
    int i, r;
    for (r = 0; r < rounds; r++) {
        int32_t sum = 0;
        left[r % COUNT] = (int8_t)seen;
        for (i = 0; i < COUNT; i++) sum += left[i] * right[i];
        seen = sum;
    }
    return (int64_t)rounds * COUNT;
}
#endif

const char *kind(void) { return KIND; }
