/* Integer kernels. Activations are int8, height by width by channel; weights are [tap][input][output], int8.
   Each output is (sum of (input - zero) * weight + bias) * multiplier / 2^(32 + shift), rounded half up, saturated. */

#define HV_MAX_CHANNELS @MAX_CHANNELS@
#define HV_MAX_TAPS @MAX_TAPS@
#define HV_MAX_ROW @MAX_ROW@

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

/* The input under each tap of the kernel for one output pixel; outside the picture, a pixel of zero points. */
static HV_INLINE void hv_taps(const hv_layer *l, const int8_t *in, const int8_t *outside, int y, int x,
                              const int8_t **taps) {
    int i, j;
    for (i = 0; i < l->kernel; i++)
        for (j = 0; j < l->kernel; j++) {
            const int row = y * l->stride + i - l->padding, column = x * l->stride + j - l->padding;
            const int inside = row >= 0 && row < l->side_in && column >= 0 && column < l->side_in;
            *taps++ = inside ? in + (row * l->side_in + column) * l->channels_in : outside;
        }
}

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(HV_PORTABLE)
@AVX512@
#else

static HV_INLINE void hv_finish(const hv_layer *l, const int32_t *sums, int8_t *out) {
    int c;
    for (c = 0; c < l->channels_out; c++) {
        const int32_t x = hv_requantise(sums[c], l->multiplier[c], l->shift[c]);
        out[c] = (int8_t)(l->leaky ? hv_leaky(x) : x);
    }
}

static HV_INLINE void hv_conv(const hv_layer *l, const int8_t *in, int8_t *out) {
    int8_t outside[HV_MAX_CHANNELS];
    const int8_t *taps[HV_MAX_TAPS];
    int32_t sums[HV_MAX_CHANNELS];
    int y, x, t, c, o;
    for (c = 0; c < l->channels_in; c++) outside[c] = (int8_t)l->zero;
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            const int8_t *w = l->weight;
            hv_taps(l, in, outside, y, x, taps);
            for (o = 0; o < l->channels_out; o++) sums[o] = l->bias[o];
            for (t = 0; t < l->kernel * l->kernel; t++)
                for (c = 0; c < l->channels_in; c++, w += l->channels_out) {
                    const int32_t value = taps[t][c] - l->zero;
                    for (o = 0; o < l->channels_out; o++) sums[o] += value * w[o];
                }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const int8_t *in, int8_t *out) {
    int8_t outside[HV_MAX_CHANNELS];
    const int8_t *taps[HV_MAX_TAPS];
    int32_t sums[HV_MAX_CHANNELS];
    int y, x, t, c;
    for (c = 0; c < l->channels_in; c++) outside[c] = (int8_t)l->zero;
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            hv_taps(l, in, outside, y, x, taps);
            for (c = 0; c < l->channels_out; c++) {
                int32_t sum = l->bias[c];
                for (t = 0; t < l->kernel * l->kernel; t++)
                    sum += (taps[t][c] - l->zero) * l->weight[t * l->channels_out + c];
                sums[c] = sum;
            }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

#endif

static HV_INLINE void hv_add(const int8_t *a, const int8_t *b, int8_t *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (int8_t)hv_clip(a[i] + b[i]);
}

static HV_INLINE void hv_image(const uint8_t *rgb, int8_t *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (int8_t)(rgb[i] - 128);
}
