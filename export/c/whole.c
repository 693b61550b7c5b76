static HV_INLINE void hv_image(const uint8_t *rgb, hv_value *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = hv_pixel(rgb[i]);
}
