/* The same sums with AVX-512 VNNI, bit for bit. Sixteen outputs at a time; VNNI multiplies unsigned by signed bytes, so
   inputs are moved up by 128 and the bias takes that, and the zero point, back. */
#include <immintrin.h>

#define HV_BLOCKS(channels) (((channels) + 15) / 16)
#define HV_PIXELS 4 /* that share each load of weights */

static HV_INLINE __mmask16 hv_lanes(int channels, int block) {
    const int left = channels - 16 * block;
    return (__mmask16)(left >= 16 ? 0xFFFF : (1 << left) - 1);
}

static HV_INLINE __m512i hv_widen(const int8_t *from, __mmask16 lanes) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, from));
}

/* What requantising one block of channels needs. Products are of 32-bit lanes 0, 2, ... and of 1, 3, ... in turn. */
typedef struct {
    __mmask16 lanes;
    __m512i even, odd, half, shift;
} hv_scale;

static HV_INLINE void hv_scales(const hv_layer *l, hv_scale *scales) {
    int b;
    for (b = 0; b < HV_BLOCKS(l->channels_out); b++) {
        hv_scale *s = scales + b;
        s->lanes = hv_lanes(l->channels_out, b);
        s->even = _mm512_maskz_loadu_epi32(s->lanes, l->multiplier + 16 * b);
        s->odd = _mm512_srli_epi64(s->even, 32);
        s->shift = _mm512_maskz_loadu_epi32(s->lanes, l->shift + 16 * b);
        s->half = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_sub_epi32(s->shift, _mm512_set1_epi32(1)));
    }
}

/* Requantise, saturate and store one block of one pixel. */
static HV_INLINE void hv_store(const hv_scale *s, __m512i sums, int8_t *out) {
    const __m512i even = _mm512_mul_epi32(sums, s->even);
    const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(sums, 32), s->odd);
    const __m512i upper = _mm512_mask_shuffle_epi32(odd, 0x5555, even, 0xF5); /* upper halves of both */
    _mm512_mask_cvtsepi32_storeu_epi8(out, s->lanes, _mm512_srav_epi32(_mm512_add_epi32(upper, s->half), s->shift));
}

/* In place, as hv_leaky does: (x * factor + 128) >> 8 is a rounding multiplication of x * 128. */
static HV_INLINE void hv_activate(const hv_layer *l, int8_t *out, int count) {
    int i;
    for (i = 0; l->leaky && i < count; i += 32) {
        const __mmask32 lanes = count - i >= 32 ? 0xFFFFFFFFu : (1u << (count - i)) - 1;
        const __m512i x = _mm512_slli_epi16(_mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(lanes, out + i)), 7);
        const __m512i factor = _mm512_mask_blend_epi16(_mm512_movepi16_mask(x), _mm512_set1_epi16(@POSITIVE@),
                                                       _mm512_set1_epi16(@NEGATIVE@));
        const __m512i y = _mm512_add_epi16(_mm512_mulhrs_epi16(x, factor), _mm512_set1_epi16(@LEAKY_ZERO@));
        _mm512_mask_cvtsepi16_storeu_epi8(out + i, lanes, y);
    }
}

/* Weights [input][output] to groups of four inputs, [input / 4][block][output][4]. Inputs past the end weigh nothing. */
static HV_INLINE void hv_group(const hv_layer *l, int inputs, __m512i *groups) {
    const int blocks = HV_BLOCKS(l->channels_out);
    int c, b, i;
    for (c = 0; c < inputs; c += 4)
        for (b = 0; b < blocks; b++) {
            const __mmask16 lanes = hv_lanes(l->channels_out, b);
            __m128i row[4], low, high, low2, high2;
            for (i = 0; i < 4; i++)
                row[i] = c + i < inputs ? _mm_maskz_loadu_epi8(lanes, l->weight + (c + i) * l->channels_out + 16 * b)
                                        : _mm_setzero_si128();
            low = _mm_unpacklo_epi8(row[0], row[1]), high = _mm_unpackhi_epi8(row[0], row[1]);
            low2 = _mm_unpacklo_epi8(row[2], row[3]), high2 = _mm_unpackhi_epi8(row[2], row[3]);
            groups[c / 4 * blocks + b] = _mm512_inserti32x4(
                _mm512_inserti32x4(
                    _mm512_inserti32x4(_mm512_castsi128_si512(_mm_unpacklo_epi16(low, low2)),
                                       _mm_unpackhi_epi16(low, low2), 1),
                    _mm_unpacklo_epi16(high, high2), 2),
                _mm_unpackhi_epi16(high, high2), 3);
        }
}

/* HV_PIXELS, or one, rows of `inputs` bytes to their outputs. */
static HV_INLINE void hv_rows(const hv_layer *l, int inputs, int pixels, const int8_t *const *rows,
                              const __m512i *groups, const __m512i *bias, const hv_scale *scales, int8_t *out) {
    const int blocks = HV_BLOCKS(l->channels_out);
    __m512i sums[HV_PIXELS][HV_BLOCKS(HV_MAX_CHANNELS)];
    int c, b, p;
    for (p = 0; p < pixels; p++)
        for (b = 0; b < blocks; b++) sums[p][b] = bias[b];
    for (c = 0; c < inputs; c += 4)
        for (p = 0; p < pixels; p++) {
            int32_t four;
            __m512i x;
            __builtin_memcpy(&four, rows[p] + c, sizeof four);
            x = _mm512_xor_si512(_mm512_set1_epi32(four), _mm512_set1_epi8(-128));
            for (b = 0; b < blocks; b++) sums[p][b] = _mm512_dpbusd_epi32(sums[p][b], x, groups[c / 4 * blocks + b]);
        }
    for (p = 0; p < pixels; p++)
        for (b = 0; b < blocks; b++) hv_store(scales + b, sums[p][b], out + p * l->channels_out + 16 * b);
}

static HV_INLINE void hv_conv(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int inputs = l->kernel * l->kernel * l->channels_in, pixels = l->side_out * l->side_out;
    const int step = pixels % HV_PIXELS ? 1 : HV_PIXELS, blocks = HV_BLOCKS(l->channels_out);
    const int in_place = l->kernel == 1 && inputs % 4 == 0; /* else a row's last group would read past it */
    __m512i groups[(HV_MAX_ROW + 3) / 4 * HV_BLOCKS(HV_MAX_CHANNELS)], bias[HV_BLOCKS(HV_MAX_CHANNELS)];
    int8_t outside[HV_MAX_CHANNELS], patches[HV_PIXELS][HV_MAX_ROW + 3];
    const int8_t *taps[HV_MAX_TAPS], *rows[HV_PIXELS];
    hv_scale scales[HV_BLOCKS(HV_MAX_CHANNELS)];
    int pixel, p, t, c, b;
    hv_group(l, inputs, groups);
    hv_scales(l, scales);
    for (b = 0; b < blocks; b++) {
        __m512i sum = _mm512_setzero_si512();
        for (c = 0; c < inputs; c += 4) sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), groups[c / 4 * blocks + b]);
        bias[b] = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(hv_lanes(l->channels_out, b), l->bias + 16 * b),
                                   _mm512_mullo_epi32(sum, _mm512_set1_epi32(128 + l->zero)));
    }
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (pixel = 0; pixel < pixels; pixel += step) {
        for (p = 0; p < step; p++) {
            rows[p] = in_place ? in + (pixel + p) * inputs : patches[p];
            if (in_place) continue;
            hv_taps(l, in, outside, (pixel + p) / l->side_out, (pixel + p) % l->side_out, taps);
            for (t = 0; t < l->kernel * l->kernel; t++)
                for (c = 0; c < l->channels_in; c++) patches[p][t * l->channels_in + c] = taps[t][c];
            for (c = inputs; c % 4; c++) patches[p][c] = 0;
        }
        hv_rows(l, inputs, step, rows, groups, bias, scales, out + pixel * l->channels_out);
    }
    hv_activate(l, out, pixels * l->channels_out);
}

static HV_INLINE __m512i hv_weigh(__m512i sum, const int8_t *const *taps, const __m512i *weight, int count, int block,
                                  __mmask16 lanes) {
    int t;
    for (t = 0; t < count; t++)
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(hv_widen(taps[t] + 16 * block, lanes), weight[t]));
    return sum;
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int count = l->kernel * l->kernel;
    int8_t outside[HV_MAX_CHANNELS];
    hv_scale scales[HV_BLOCKS(HV_MAX_CHANNELS)];
    int b, y, x, t, c;
    hv_scales(l, scales);
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (b = 0; b < HV_BLOCKS(l->channels_out); b++) {
        const __mmask16 lanes = hv_lanes(l->channels_out, b);
        __m512i weight[HV_MAX_TAPS], bias = _mm512_maskz_loadu_epi32(lanes, l->bias + 16 * b);
        for (t = 0; t < count; t++) {
            weight[t] = hv_widen(l->weight + t * l->channels_out + 16 * b, lanes);
            bias = _mm512_sub_epi32(bias, _mm512_mullo_epi32(weight[t], _mm512_set1_epi32(l->zero)));
        }
        for (y = 0; y < l->side_out; y++)
            for (x = 0; x < l->side_out; x++) {
                const int row = y * l->stride - l->padding, column = x * l->stride - l->padding;
                const int last = l->side_in - l->kernel;
                const int8_t *taps[HV_MAX_TAPS];
                __m512i sum;
                if (row >= 0 && row <= last && column >= 0 && column <= last) {
                    const int8_t *corner = in + (row * l->side_in + column) * l->channels_in;
                    for (t = 0; t < count; t++)
                        taps[t] = corner + (t / l->kernel * l->side_in + t % l->kernel) * l->channels_in;
                    sum = hv_weigh(bias, taps, weight, count, b, lanes);
                } else {
                    hv_taps(l, in, outside, y, x, taps);
                    sum = hv_weigh(bias, taps, weight, count, b, lanes);
                }
                hv_store(scales + b, sum, out + (y * l->side_out + x) * l->channels_out + 16 * b);
            }
    }
    hv_activate(l, out, l->side_out * l->side_out * l->channels_out);
}

/* One output of the whole map, whose values and weights lie in the same order. */
static HV_INLINE void hv_dense(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int count = l->side_in * l->side_in * l->channels_in;
    __m512i sum = _mm512_setzero_si512(), weights = _mm512_setzero_si512();
    hv_scale scale;
    int i, total;
    for (i = 0; i < count; i += 64) {
        const __mmask64 lanes = count - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (count - i)) - 1;
        const __m512i x = _mm512_xor_si512(_mm512_maskz_loadu_epi8(lanes, in + i), _mm512_set1_epi8(-128));
        const __m512i weight = _mm512_maskz_loadu_epi8(lanes, l->weight + i);
        sum = _mm512_dpbusd_epi32(sum, x, weight);
        weights = _mm512_dpbusd_epi32(weights, _mm512_set1_epi8(1), weight);
    }
    total = l->bias[0] + _mm512_reduce_add_epi32(sum) - (128 + l->zero) * _mm512_reduce_add_epi32(weights);
    hv_scales(l, &scale);
    hv_store(&scale, _mm512_set1_epi32(total), out);
    hv_activate(l, out, 1);
}
