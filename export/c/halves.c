/* The left `width` columns of a face that is `side` pixels high and wide, or those of its mirror image. */
static HV_INLINE void hv_half(const uint8_t *rgb, hv_value *out, int side, int width, int mirrored) {
    int y, x, c;
    for (y = 0; y < side; y++, rgb += side * 3)
        for (x = 0; x < width; x++)
            for (c = 0; c < 3; c++) *out++ = hv_pixel(rgb[(mirrored ? side - 1 - x : x) * 3 + c]);
}

/* One map of two that lie one after the other. */
static HV_INLINE void hv_mean(const hv_value *in, hv_value *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (hv_value)HV_HALF(in[i] + in[count + i]);
}
