/* Integer kernels. Activations are int8, height by width by channel; weights are [tap][input][output], int8.
   Each output is (sum of (input - zero) * weight + bias) * multiplier / 2^(32 + shift), rounded half up, saturated. */

#define HV_MAX_CHANNELS @MAX_CHANNELS@
#define HV_MAX_TAPS @MAX_TAPS@
#define HV_MAX_ROW @MAX_ROW@
#define HV_MAX_KERNEL @MAX_KERNEL@
#define HV_MAX_RUN @MAX_RUN@
#define HV_MAX_MAP @MAX_MAP@
#define HV_MAX_PADDED_ROW @MAX_PADDED_ROW@
#define HV_MAX_OUT_ROW @MAX_OUT_ROW@

typedef int8_t hv_value;
typedef int32_t hv_sum;
typedef int8_t hv_weight;

typedef struct {
    int height_in, width_in, channels_in, height_out, width_out, channels_out, kernel, stride, padding;
    int32_t zero;  /* the input's zero point, which padding has too */
    int leaky;
    const int8_t *weight;
    const int32_t *bias, *multiplier;
    const int32_t *shift;  /* of the product's upper 32 bits */
} hv_layer;

static HV_INLINE int32_t hv_clip(int32_t x) {
    return x < -128 ? -128 : x > 127 ? 127 : x;
}

/* A processor with AVX-512 VNNI has AVX2, too. */
#if defined(__AVX2__) && defined(__x86_64__) && !defined(HV_PORTABLE)
@int8_x86@
#else

static HV_INLINE hv_value hv_outside(const hv_layer *l) {
    return (hv_value)l->zero;
}

@common@

/* Two choices that C99 leaves to the compiler; this refuses one that does not keep the sign, or the low bits. */
typedef char hv_shifts_keep_the_sign[(-1 >> 1) == -1 ? 1 : -1];
typedef char hv_casts_keep_the_bits[(int32_t)0xFFFFFFFFu == -1 ? 1 : -1];

/* Unsigned, and in two shifts: what compilers turn into the fewest vector instructions. */
static HV_INLINE int32_t hv_requantise(int32_t sum, int32_t multiplier, int shift) {
    const int32_t upper = (int32_t)((uint64_t)((int64_t)sum * multiplier) >> 32);
    return hv_clip(((upper >> (shift - 1)) + 1) >> 1);
}

/* From steps of 1/128 to 1.25/255 at zero point @LEAKY_ZERO@: times @POSITIVE@/256 above zero, @NEGATIVE@/256 below.
   What comes of int8 lies in int8. */
static HV_INLINE int32_t hv_leaky(int32_t x) {
    const int32_t above = x * @POSITIVE@, below = x * @NEGATIVE@;
    return (((above > below ? above : below) + 128) >> 8) + (@LEAKY_ZERO@);
}

#if defined(__ARM_NEON) && defined(__aarch64__) && !defined(HV_PORTABLE)
@int8_neon@
#else

typedef int32_t hv_row;

static HV_INLINE hv_sum hv_centred(const hv_layer *l, hv_value x) {
    return x - l->zero;
}

/* One function for all layers: where it is unrolled into each, compilers turn the multipliers into scalar code. */
static HV_APART void hv_finish(const hv_layer *l, int32_t *restrict sums, int pixels, int8_t *restrict out) {
    const int32_t *const multiplier = l->multiplier, *const shift = l->shift;
    const int channels = l->channels_out;
    int32_t *pixel = sums;
    int p, c;
    for (p = 0; p < pixels; p++, pixel += channels)
        for (c = 0; c < channels; c++) pixel[c] = hv_requantise(pixel[c], multiplier[c], shift[c]);
    if (l->leaky)
        for (c = 0; c < pixels * channels; c++) sums[c] = hv_leaky(sums[c]);
    for (c = 0; c < pixels * channels; c++) out[c] = (int8_t)sums[c];
}

@portable@

#endif
#endif

static HV_INLINE int8_t hv_pixel(uint8_t value) {
    return (int8_t)(value - 128);
}

#define HV_HALF(sum) (((sum) + 1) >> 1)
