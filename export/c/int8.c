/* Integer kernels. Activations are int8, height by width by channel; weights are [tap][input][output], int8.
   Each output is (sum of (input - zero) * weight + bias) * multiplier / 2^(32 + shift), rounded half up, saturated. */

#define HV_MAX_CHANNELS @MAX_CHANNELS@
#define HV_MAX_TAPS @MAX_TAPS@
#define HV_MAX_ROW @MAX_ROW@

typedef int8_t hv_value;
typedef int32_t hv_sum;

typedef struct {
    int side_in, channels_in, side_out, channels_out, kernel, stride, padding;
    int32_t zero;  /* the input's zero point, which padding has too */
    int leaky;
    const int8_t *weight;
    const int32_t *bias, *multiplier;
    const uint8_t *shift;  /* of the product's upper 32 bits */
} hv_layer;

static HV_INLINE int32_t hv_clip(int32_t x) {
    return x < -128 ? -128 : x > 127 ? 127 : x;
}

static HV_INLINE hv_value hv_outside(const hv_layer *l) {
    return (hv_value)l->zero;
}

@common@

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(HV_PORTABLE)
@int8_avx512@
#else

/* The right shift of a negative number is the compiler's choice in C99; this refuses one that does not keep the sign. */
typedef char hv_shifts_keep_the_sign[(-1 >> 1) == -1 ? 1 : -1];

static HV_INLINE int32_t hv_requantise(int32_t sum, int32_t multiplier, int shift) {
    const int32_t upper = (int32_t)(((int64_t)sum * multiplier) >> 32);
    return hv_clip((upper + (int32_t)((uint32_t)1 << (shift - 1))) >> shift);
}

/* From steps of 1/128 to steps of 1.25/255 at zero point @LEAKY_ZERO@: times @POSITIVE@/256 above zero, @NEGATIVE@/256 below. */
static HV_INLINE int32_t hv_leaky(int32_t x) {
    return hv_clip(((x * (x > 0 ? @POSITIVE@ : @NEGATIVE@) + 128) >> 8) + (@LEAKY_ZERO@));
}

#if defined(__ARM_NEON) && defined(__aarch64__) && !defined(HV_PORTABLE)
@int8_neon@
#else

static HV_INLINE hv_sum hv_centred(const hv_layer *l, hv_value x) {
    return x - l->zero;
}

static HV_INLINE void hv_finish(const hv_layer *l, const int32_t *sums, int8_t *out) {
    int c;
    for (c = 0; c < l->channels_out; c++) {
        const int32_t x = hv_requantise(sums[c], l->multiplier[c], l->shift[c]);
        out[c] = (int8_t)(l->leaky ? hv_leaky(x) : x);
    }
}

@portable@

#endif
#endif

static HV_INLINE void hv_image(const uint8_t *rgb, int8_t *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (int8_t)(rgb[i] - 128);
}
