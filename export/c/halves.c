/* The left `width` columns of a face that is `side` pixels high and wide, and those of its mirror image. */
static HV_INLINE void hv_halves(const uint8_t *rgb, hv_value *out, int side, int width) {
    hv_value *mirrored = out + side * width * 3;
    int y, x, c;
    for (y = 0; y < side; y++, rgb += side * 3)
        for (x = 0; x < width; x++)
            for (c = 0; c < 3; c++) {
                *out++ = hv_pixel(rgb[x * 3 + c]);
                *mirrored++ = hv_pixel(rgb[(side - 1 - x) * 3 + c]);
            }
}

/* One map of two that lie one after the other. */
static HV_INLINE void hv_mean(const hv_value *in, hv_value *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (hv_value)HV_HALF(in[i] + in[count + i]);
}
