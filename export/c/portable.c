static HV_INLINE void hv_conv(const hv_layer *l, const hv_value *in, hv_value *out) {
    hv_value outside[HV_MAX_CHANNELS];
    const hv_value *taps[HV_MAX_TAPS];
    hv_sum sums[HV_MAX_CHANNELS];
    int y, x, t, c, o;
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            const hv_value *w = l->weight;
            hv_taps(l, in, outside, y, x, taps);
            for (o = 0; o < l->channels_out; o++) sums[o] = l->bias[o];
            for (t = 0; t < l->kernel * l->kernel; t++)
                for (c = 0; c < l->channels_in; c++, w += l->channels_out) {
                    const hv_sum value = hv_centred(l, taps[t][c]);
                    for (o = 0; o < l->channels_out; o++) sums[o] += value * w[o];
                }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const hv_value *in, hv_value *out) {
    hv_value outside[HV_MAX_CHANNELS];
    const hv_value *taps[HV_MAX_TAPS];
    hv_sum sums[HV_MAX_CHANNELS];
    int y, x, t, c;
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (y = 0; y < l->side_out; y++)
        for (x = 0; x < l->side_out; x++) {
            hv_taps(l, in, outside, y, x, taps);
            for (c = 0; c < l->channels_out; c++) {
                hv_sum sum = l->bias[c];
                for (t = 0; t < l->kernel * l->kernel; t++)
                    sum += hv_centred(l, taps[t][c]) * l->weight[t * l->channels_out + c];
                sums[c] = sum;
            }
            hv_finish(l, sums, out);
            out += l->channels_out;
        }
}

/* One output of the whole map, whose values and weights lie in the same order. */
static HV_INLINE void hv_dense(const hv_layer *l, const hv_value *in, hv_value *out) {
    const int count = l->side_in * l->side_in * l->channels_in;
    hv_sum sum = l->bias[0];
    int i;
    for (i = 0; i < count; i++) sum += hv_centred(l, in[i]) * l->weight[i];
    hv_finish(l, &sum, out);
}
