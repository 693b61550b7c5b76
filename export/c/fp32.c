/* Float kernels. Activations are height by width by channel; weights are [tap][input][output].
   Every output is clipped to [-1, 1], the score excepted. */

#define HV_MAX_CHANNELS @MAX_CHANNELS@
#define HV_MAX_TAPS @MAX_TAPS@

typedef struct {
    int side_in, channels_in, side_out, channels_out, kernel, stride, padding;
    int leaky, clipped;
    const float *weight, *bias;
} hv_layer;

static HV_INLINE float hv_clip(float x) {
    return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
}

static HV_INLINE void hv_finish(const hv_layer *l, const float *sums, float *out) {
    int c;
    for (c = 0; c < l->channels_out; c++) {
        const float x = l->clipped ? hv_clip(sums[c]) : sums[c];
        out[c] = l->leaky && x < 0.0f ? x * @SLOPE@f : x;
    }
}

/* The input under each tap of the kernel for one output pixel; outside the picture, a pixel of zeros. */
static HV_INLINE void hv_taps(const hv_layer *l, const float *in, const float *outside, int y, int x,
                              const float **taps) {
    int i, j;
    for (i = 0; i < l->kernel; i++)
        for (j = 0; j < l->kernel; j++) {
            const int row = y * l->stride + i - l->padding, column = x * l->stride + j - l->padding;
            const int inside = row >= 0 && row < l->side_in && column >= 0 && column < l->side_in;
            *taps++ = inside ? in + (row * l->side_in + column) * l->channels_in : outside;
        }
}

static HV_INLINE void hv_conv(const hv_layer *l, const float *in, float *out) {
    float outside[HV_MAX_CHANNELS];
    const float *taps[HV_MAX_TAPS];
    float sums[HV_MAX_CHANNELS];
    int y, x, t, c, o;
    for (c = 0; c < l->channels_in; c++) outside[c] = 0.0f;
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            const float *w = l->weight;
            hv_taps(l, in, outside, y, x, taps);
            for (o = 0; o < l->channels_out; o++) sums[o] = l->bias[o];
            for (t = 0; t < l->kernel * l->kernel; t++)
                for (c = 0; c < l->channels_in; c++, w += l->channels_out) {
                    const float value = taps[t][c];
                    for (o = 0; o < l->channels_out; o++) sums[o] += value * w[o];
                }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const float *in, float *out) {
    float outside[HV_MAX_CHANNELS];
    const float *taps[HV_MAX_TAPS];
    float sums[HV_MAX_CHANNELS];
    int y, x, t, c;
    for (c = 0; c < l->channels_in; c++) outside[c] = 0.0f;
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            hv_taps(l, in, outside, y, x, taps);
            for (c = 0; c < l->channels_out; c++) {
                float sum = l->bias[c];
                for (t = 0; t < l->kernel * l->kernel; t++)
                    sum += taps[t][c] * l->weight[t * l->channels_out + c];
                sums[c] = sum;
            }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

static HV_INLINE void hv_add(const float *a, const float *b, float *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = hv_clip(a[i] + b[i]);
}

static HV_INLINE void hv_image(const uint8_t *rgb, float *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = ((float)rgb[i] - 128.0f) / 128.0f;
}
