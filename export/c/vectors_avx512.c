/* AVX-512 VNNI: sums of four products in 16 lanes. */
typedef __m512i hv_vector;
typedef uint8_t hv_row; /* VNNI multiplies unsigned by signed bytes: inputs move up, and the bias takes that back */
#define HV_MOVED 128
#define HV_LANES 16
#define HV_GROUP 4
#define HV_TILE 3 /* vectors of outputs that are made at once, for each of four pixels */
#define HV_V(name) _mm512_##name
#define HV_ONES _mm512_set1_epi8(1)

static HV_INLINE hv_vector hv_load(const void *from) {
    return _mm512_loadu_si512(from);
}

static HV_INLINE void hv_save(void *to, hv_vector x) {
    _mm512_storeu_si512(to, x);
}

static HV_INLINE hv_vector hv_dot(hv_vector sums, hv_vector inputs, hv_vector weights) {
    return _mm512_dpbusd_epi32(sums, inputs, weights);
}

/* The upper halves of the products of lanes 0, 2, ... and of lanes 1, 3, ... */
static HV_INLINE hv_vector hv_upper(hv_vector even, hv_vector odd) {
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, 0xF5);
}

/* Lane j of quarter i becomes lane i of quarter j. */
static HV_INLINE hv_vector hv_turn(hv_vector x) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}

/* Its first bytes are those of quarter `i`. */
static HV_INLINE __m128i hv_quarter(hv_vector x, int i) {
    const __m256i half = i < 2 ? _mm512_castsi512_si256(x) : _mm512_extracti64x4_epi64(x, 1);
    return i % 2 ? _mm256_extracti128_si256(half, 1) : _mm256_castsi256_si128(half);
}

static HV_INLINE hv_vector hv_values(const int8_t *from) {
    return hv_load(from);
}

static HV_INLINE hv_vector hv_moved(hv_vector x) {
    return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

/* Four runs of 4 * HV_LANES values to groups of one value of each. */
static HV_INLINE void hv_interleave(const hv_row *const *runs, hv_vector *groups) {
    const hv_vector a = hv_turn(hv_load(runs[0])), b = hv_turn(hv_load(runs[1]));
    const hv_vector c = hv_turn(hv_load(runs[2])), d = hv_turn(hv_load(runs[3]));
    const hv_vector low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
    const hv_vector low2 = _mm512_unpacklo_epi8(c, d), high2 = _mm512_unpackhi_epi8(c, d);
    groups[0] = _mm512_unpacklo_epi16(low, low2), groups[1] = _mm512_unpackhi_epi16(low, low2);
    groups[2] = _mm512_unpacklo_epi16(high, high2), groups[3] = _mm512_unpackhi_epi16(high, high2);
}

/* The weights of HV_LANES outputs, `count` of them real, for each of HV_GROUP inputs, `inputs` of them real. */
static HV_INLINE hv_vector hv_group(const int8_t *weight, int step, int inputs, int count) {
    const __mmask16 lanes = (__mmask16)(count >= 16 ? 0xFFFF : (1 << count) - 1);
    __m128i row[4], low, high, low2, high2;
    int i;
    for (i = 0; i < 4; i++) row[i] = _mm_maskz_loadu_epi8(i < inputs ? lanes : 0, weight + (i < inputs ? i * step : 0));
    low = _mm_unpacklo_epi8(row[0], row[1]), high = _mm_unpackhi_epi8(row[0], row[1]);
    low2 = _mm_unpacklo_epi8(row[2], row[3]), high2 = _mm_unpackhi_epi8(row[2], row[3]);
    return _mm512_inserti32x4(
        _mm512_inserti32x4(_mm512_inserti32x4(_mm512_castsi128_si512(_mm_unpacklo_epi16(low, low2)),
                                              _mm_unpackhi_epi16(low, low2), 1),
                           _mm_unpacklo_epi16(high, high2), 2),
        _mm_unpackhi_epi16(high, high2), 3);
}
