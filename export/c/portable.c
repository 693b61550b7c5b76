/* Pixels and outputs whose sums are made at once, in registers: sixteen vectors' worth, or what a small core can hold.
   Literal numbers let compilers unroll these loops and vectorise the innermost. */
#if (defined(__SSE2__) || defined(__ARM_NEON)) && !defined(__OPTIMIZE_SIZE__)
#define HV_PIXELS 8
#define HV_OUTPUTS 8
#else
#define HV_PIXELS 2
#define HV_OUTPUTS 4
#endif

/* The input under the kernel for one output pixel, less its zero point. */
static HV_INLINE void hv_patch(const hv_layer *l, const hv_value *in, int pixel, hv_row *row) {
    const int top = pixel / l->width_out * l->stride - l->padding, left = pixel % l->width_out * l->stride - l->padding;
    const int lowest = l->height_in - l->kernel, last = l->width_in - l->kernel, width = l->kernel * l->channels_in;
    int i, j, c;
    if (top >= 0 && top <= lowest && left >= 0 && left <= last) {
        const hv_value *from = in + (top * l->width_in + left) * l->channels_in;
        for (i = 0; i < l->kernel; i++)
            for (c = 0; c < width; c++) row[i * width + c] = hv_centred(l, from[i * l->width_in * l->channels_in + c]);
    } else {
        for (i = 0; i < l->kernel; i++)
            for (j = 0; j < l->kernel; j++) {
                const int y = top + i, x = left + j, inside = y >= 0 && y < l->height_in && x >= 0 && x < l->width_in;
                for (c = 0; c < l->channels_in; c++)
                    *row++ = (hv_row)(inside ? hv_centred(l, in[(y * l->width_in + x) * l->channels_in + c]) : 0);
            }
    }
}

/* `outputs` sums, from output `o` on, of each of HV_PIXELS rows. */
static HV_INLINE void hv_tile(const hv_layer *l, hv_row (*rows)[HV_MAX_ROW], int inputs, int o, int outputs,
                              hv_sum *sums) {
    hv_sum tile[HV_PIXELS][HV_OUTPUTS];
    const hv_weight *weight = l->weight + o;
    int c, p, i;
    for (p = 0; p < HV_PIXELS; p++)
        for (i = 0; i < outputs; i++) tile[p][i] = l->bias[o + i];
    for (c = 0; c < inputs; c++, weight += l->channels_out)
        for (p = 0; p < HV_PIXELS; p++)
            for (i = 0; i < outputs; i++) tile[p][i] += rows[p][c] * weight[i];
    for (p = 0; p < HV_PIXELS; p++)
        for (i = 0; i < outputs; i++) sums[p * l->channels_out + o + i] = tile[p][i];
}

static HV_INLINE void hv_conv(const hv_layer *l, const hv_value *in, hv_value *out) {
    const int inputs = l->kernel * l->kernel * l->channels_in, pixels = l->height_out * l->width_out;
    hv_row rows[HV_PIXELS][HV_MAX_ROW];
    hv_sum sums[HV_PIXELS * HV_MAX_CHANNELS];
    int pixel, p, o;
    for (pixel = 0; pixel < pixels; pixel += HV_PIXELS) {
        /* The last pixels may be fewer: the last of all is then summed several times, and kept once. */
        for (p = 0; p < HV_PIXELS; p++) hv_patch(l, in, pixel + p < pixels ? pixel + p : pixels - 1, rows[p]);
        for (o = 0; o + HV_OUTPUTS <= l->channels_out; o += HV_OUTPUTS) hv_tile(l, rows, inputs, o, HV_OUTPUTS, sums);
        for (; o + 4 <= l->channels_out; o += 4) hv_tile(l, rows, inputs, o, 4, sums);
        for (; o < l->channels_out; o++) hv_tile(l, rows, inputs, o, 1, sums);
        hv_finish(l, sums, pixels - pixel < HV_PIXELS ? pixels - pixel : HV_PIXELS, out + pixel * l->channels_out);
    }
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const hv_value *in, hv_value *out) {
    const int pixels = l->height_out * l->width_out, channels = l->channels_out;
    hv_value outside[HV_MAX_CHANNELS];
    const hv_value *taps[HV_MAX_TAPS];
    hv_sum sums[HV_PIXELS * HV_MAX_CHANNELS];
    int pixel, p, t, c;
    for (c = 0; c < channels; c++) outside[c] = hv_outside(l);
    for (pixel = 0; pixel < pixels; pixel += HV_PIXELS) {
        const int count = pixels - pixel < HV_PIXELS ? pixels - pixel : HV_PIXELS;
        for (p = 0; p < count; p++) {
            hv_taps(l, in, outside, (pixel + p) / l->width_out, (pixel + p) % l->width_out, taps);
            for (c = 0; c < channels; c++) {
                hv_sum sum = l->bias[c];
                for (t = 0; t < l->kernel * l->kernel; t++)
                    sum += hv_centred(l, taps[t][c]) * l->weight[t * channels + c];
                sums[p * channels + c] = sum;
            }
        }
        hv_finish(l, sums, count, out + pixel * channels);
    }
}

/* One output of the whole map, whose values and weights lie in the same order. */
static HV_INLINE void hv_dense(const hv_layer *l, const hv_value *in, hv_value *out) {
    const int count = l->height_in * l->width_in * l->channels_in;
    hv_sum sum = l->bias[0];
    int i;
    for (i = 0; i < count; i++) sum += hv_centred(l, in[i]) * l->weight[i];
    hv_finish(l, &sum, 1, out);
}
