/* Float kernels. Activations are height by width by channel; weights are [tap][input][output].
   Every output is clipped to [-1, 1], the score excepted. */

#define HV_MAX_CHANNELS @MAX_CHANNELS@
#define HV_MAX_TAPS @MAX_TAPS@
#define HV_MAX_ROW @MAX_ROW@

typedef float hv_value;
typedef float hv_sum;
typedef float hv_weight;
typedef float hv_row;

typedef struct {
    int height_in, width_in, channels_in, height_out, width_out, channels_out, kernel, stride, padding;
    int leaky, clipped;
    const float *weight, *bias;
} hv_layer;

static HV_INLINE float hv_clip(float x) {
    return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
}

/* Padding is zero, and nothing has a zero point. */
static HV_INLINE hv_value hv_outside(const hv_layer *l) {
    (void)l;
    return 0.0f;
}

static HV_INLINE hv_sum hv_centred(const hv_layer *l, hv_value x) {
    (void)l;
    return x;
}

static HV_INLINE void hv_finish(const hv_layer *l, const float *restrict sums, int pixels, float *restrict out) {
    int p, c;
    for (p = 0; p < pixels; p++, sums += l->channels_out, out += l->channels_out)
        for (c = 0; c < l->channels_out; c++) {
            const float x = l->clipped ? hv_clip(sums[c]) : sums[c];
            out[c] = l->leaky && x < 0.0f ? x * @SLOPE@f : x;
        }
}

@common@

@portable@

static HV_INLINE float hv_pixel(uint8_t value) {
    return ((float)value - 128.0f) / 128.0f;
}

#define HV_HALF(sum) ((sum) / 2.0f)
