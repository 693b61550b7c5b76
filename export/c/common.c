/* The input under each tap of the kernel for one output pixel; outside the picture, a pixel of zero points. */
static HV_INLINE void hv_taps(const hv_layer *l, const hv_value *in, const hv_value *outside, int y, int x,
                              const hv_value **taps) {
    int i, j;
    for (i = 0; i < l->kernel; i++)
        for (j = 0; j < l->kernel; j++) {
            const int row = y * l->stride + i - l->padding, column = x * l->stride + j - l->padding;
            const int inside = row >= 0 && row < l->height_in && column >= 0 && column < l->width_in;
            *taps++ = inside ? in + (row * l->width_in + column) * l->channels_in : outside;
        }
}

static HV_INLINE void hv_add(const hv_value *a, const hv_value *b, hv_value *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (hv_value)hv_clip(a[i] + b[i]);
}
