/* AVX2, as in vectors_avx512.c: sums of two products in eight lanes. Inputs and weights are widened to 16 bits. */
typedef __m256i hv_vector;
typedef int16_t hv_row;
#define HV_MOVED 0
#define HV_LANES 8
#define HV_GROUP 2
#define HV_TILE 2
#define HV_V(name) _mm256_##name
#define HV_ONES _mm256_set1_epi16(1)

static HV_INLINE hv_vector hv_load(const void *from) {
    return _mm256_loadu_si256((const __m256i *)from);
}

static HV_INLINE void hv_save(void *to, hv_vector x) {
    _mm256_storeu_si256((__m256i *)to, x);
}

static HV_INLINE hv_vector hv_dot(hv_vector sums, hv_vector inputs, hv_vector weights) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(inputs, weights));
}

static HV_INLINE hv_vector hv_upper(hv_vector even, hv_vector odd) {
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

static HV_INLINE hv_vector hv_turn(hv_vector x) {
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static HV_INLINE __m128i hv_quarter(hv_vector x, int i) {
    const __m128i half = i < 2 ? _mm256_castsi256_si128(x) : _mm256_extracti128_si256(x, 1);
    return i % 2 ? _mm_unpackhi_epi64(half, half) : half;
}

static HV_INLINE hv_vector hv_values(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
}

static HV_INLINE hv_vector hv_moved(hv_vector x) {
    return x;
}

static HV_INLINE void hv_interleave(const hv_row *const *runs, hv_vector *groups) {
    int i;
    for (i = 0; i < 2; i++) {
        const hv_vector a = _mm256_permute4x64_epi64(hv_load(runs[0] + 16 * i), 0xD8);
        const hv_vector b = _mm256_permute4x64_epi64(hv_load(runs[1] + 16 * i), 0xD8);
        groups[2 * i] = _mm256_unpacklo_epi16(a, b), groups[2 * i + 1] = _mm256_unpackhi_epi16(a, b);
    }
}

static HV_INLINE hv_vector hv_group(const int8_t *weight, int step, int inputs, int count) {
    int64_t rows[2] = {0, 0};
    int i;
    for (i = 0; i < inputs && i < 2; i++)
        __builtin_memcpy(rows + i, weight + i * step, (unsigned)(count < 8 ? count : 8));
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_cvtsi64_si128(rows[0]), _mm_cvtsi64_si128(rows[1])));
}
