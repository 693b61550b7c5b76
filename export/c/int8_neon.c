/* The same sums with NEON, bit for bit, eight outputs at a time; with SDOT where the processor has it. */
#include <arm_neon.h>

#define HV_PADDED(channels) (((channels) + 7) / 8 * 8)
#define HV_PIXELS 4 /* that share each load of weights */

#if defined(__ARM_FEATURE_DOTPROD)
typedef int8_t hv_row; /* as stored: the bias takes the zero point back */
#define HV_ROW_ZERO(l) ((void)(l), 0)
#define HV_PLACE(c, o, padded) (((c) / 4 * (padded) + (o)) * 4 + (c) % 4) /* [input / 4][output][4] */
#else
typedef int16_t hv_row; /* less the zero point */
#define HV_ROW_ZERO(l) ((l)->zero)
#define HV_PLACE(c, o, padded) ((c) * (padded) + (o)) /* [input][output] */
#endif

/* One layer's numbers, filled up with zeros to whole vectors. */
typedef struct {
    int8_t weight[(HV_MAX_ROW + 3) / 4 * 4 * HV_PADDED(HV_MAX_CHANNELS)];
    int32_t bias[HV_PADDED(HV_MAX_CHANNELS)], multiplier[HV_PADDED(HV_MAX_CHANNELS)], shift[HV_PADDED(HV_MAX_CHANNELS)];
} hv_packed;

static HV_INLINE void hv_pack_scales(const hv_layer *l, hv_packed *packed) {
    int o;
    for (o = 0; o < HV_PADDED(l->channels_out); o++) {
        const int real = o < l->channels_out;
        packed->bias[o] = real ? l->bias[o] : 0;
        packed->multiplier[o] = real ? l->multiplier[o] : 0;
        packed->shift[o] = real ? -l->shift[o] : 0;
    }
}

static HV_INLINE void hv_pack(const hv_layer *l, int inputs, hv_packed *packed) {
    const int padded = HV_PADDED(l->channels_out);
    int c, o;
    hv_pack_scales(l, packed);
    for (c = 0; c < (inputs + 3) / 4 * 4; c++)
        for (o = 0; o < padded; o++) {
            const int real = c < inputs && o < l->channels_out;
            const int8_t weight = (int8_t)(real ? l->weight[c * l->channels_out + o] : 0);
            packed->weight[HV_PLACE(c, o, padded)] = weight;
            packed->bias[o] -= (l->zero - HV_ROW_ZERO(l)) * weight;
        }
}

static HV_INLINE int16x4_t hv_requantise4(int32x4_t sums, const int32_t *multiplier, const int32_t *shift) {
    const int32x4_t m = vld1q_s32(multiplier);
    const int32x2_t low = vshrn_n_s64(vmull_s32(vget_low_s32(sums), vget_low_s32(m)), 32);
    const int32x2_t high = vshrn_n_s64(vmull_s32(vget_high_s32(sums), vget_high_s32(m)), 32);
    return vqmovn_s32(vrshlq_s32(vcombine_s32(low, high), vld1q_s32(shift)));
}

/* Requantise, saturate, activate as hv_leaky does ((x * factor + 128) >> 8 is a rounding multiplication of x * 128),
   and store the first `count` of eight channels from `o` on. */
static HV_INLINE void hv_store(const hv_layer *l, const hv_packed *packed, int32x4_t low, int32x4_t high, int o, int count,
                               int8_t *out) {
    int8x8_t y = vqmovn_s16(vcombine_s16(hv_requantise4(low, packed->multiplier + o, packed->shift + o),
                                         hv_requantise4(high, packed->multiplier + o + 4, packed->shift + o + 4)));
    if (l->leaky) {
        const int16x8_t x = vshlq_n_s16(vmovl_s8(y), 7);
        const int16x8_t factor = vbslq_s16(vcgtq_s16(x, vdupq_n_s16(0)), vdupq_n_s16(@POSITIVE@), vdupq_n_s16(@NEGATIVE@));
        y = vqmovn_s16(vaddq_s16(vqrdmulhq_s16(x, factor), vdupq_n_s16(@LEAKY_ZERO@)));
    }
    if (count >= 8) {
        vst1_s8(out, y);
    } else {
        int8_t eight[8];
        int i;
        vst1_s8(eight, y);
        for (i = 0; i < count; i++) out[i] = eight[i];
    }
}

#if defined(__ARM_FEATURE_DOTPROD)

/* Eight outputs from `o` on, of HV_PIXELS, or one, rows. */
static HV_INLINE void hv_weigh(const hv_packed *packed, const hv_row *const *rows, int pixels, int inputs, int padded, int o,
                               int32x4_t (*sums)[2]) {
    int c, p;
    for (c = 0; c < inputs; c += 4) {
        const int8_t *w = packed->weight + HV_PLACE(c, o, padded);
        const int8x16_t low = vld1q_s8(w), high = vld1q_s8(w + 16);
        for (p = 0; p < pixels; p++) {
            int32_t four;
            int8x16_t x;
            __builtin_memcpy(&four, rows[p] + c, sizeof four);
            x = vreinterpretq_s8_s32(vdupq_n_s32(four));
            sums[p][0] = vdotq_s32(sums[p][0], low, x);
            sums[p][1] = vdotq_s32(sums[p][1], high, x);
        }
    }
}

#else

#define HV_STEP(i)                                                                       \
    {                                                                                    \
        const int16x8_t w = vmovl_s8(vld1_s8(packed->weight + (c + (i)) * padded + o));  \
        for (p = 0; p < pixels; p++) {                                                   \
            sums[p][0] = vmlal_lane_s16(sums[p][0], vget_low_s16(w), x[p], i);           \
            sums[p][1] = vmlal_lane_s16(sums[p][1], vget_high_s16(w), x[p], i);          \
        }                                                                                \
    }

/* Eight outputs from `o` on, of HV_PIXELS, or one, rows. */
static HV_INLINE void hv_weigh(const hv_packed *packed, const hv_row *const *rows, int pixels, int inputs, int padded, int o,
                               int32x4_t (*sums)[2]) {
    int c, p;
    for (c = 0; c < inputs; c += 4) {
        int16x4_t x[HV_PIXELS];
        for (p = 0; p < pixels; p++) x[p] = vld1_s16(rows[p] + c);
        HV_STEP(0)
        HV_STEP(1)
        HV_STEP(2)
        HV_STEP(3)
    }
}

#endif

static HV_INLINE void hv_rows(const hv_layer *l, const hv_packed *packed, const hv_row *const *rows, int pixels, int inputs,
                              int8_t *out) {
    int o, p;
    for (o = 0; o < l->channels_out; o += 8) {
        int32x4_t sums[HV_PIXELS][2];
        for (p = 0; p < pixels; p++) {
            sums[p][0] = vld1q_s32(packed->bias + o);
            sums[p][1] = vld1q_s32(packed->bias + o + 4);
        }
        hv_weigh(packed, rows, pixels, inputs, HV_PADDED(l->channels_out), o, sums);
        for (p = 0; p < pixels; p++)
            hv_store(l, packed, sums[p][0], sums[p][1], o, l->channels_out - o, out + p * l->channels_out + o);
    }
}

static HV_INLINE void hv_conv(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int inputs = l->kernel * l->kernel * l->channels_in, pixels = l->height_out * l->width_out;
    const int step = pixels % HV_PIXELS ? 1 : HV_PIXELS;
    hv_packed packed;
    int8_t outside[HV_MAX_CHANNELS];
    hv_row patches[HV_PIXELS][HV_MAX_ROW + 3];
    const int8_t *taps[HV_MAX_TAPS];
    const hv_row *rows[HV_PIXELS];
    int pixel, p, t, c;
    hv_pack(l, inputs, &packed);
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (pixel = 0; pixel < pixels; pixel += step) {
        for (p = 0; p < step; p++) {
            hv_row *row = patches[p];
            rows[p] = row;
            hv_taps(l, in, outside, (pixel + p) / l->width_out, (pixel + p) % l->width_out, taps);
            for (t = 0; t < l->kernel * l->kernel; t++)
                for (c = 0; c < l->channels_in; c++) *row++ = (hv_row)(taps[t][c] - HV_ROW_ZERO(l));
            for (c = inputs; c % 4; c++) *row++ = 0;
        }
        hv_rows(l, &packed, rows, step, inputs, out + pixel * l->channels_out);
    }
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int16x8_t zero = vdupq_n_s16((int16_t)l->zero);
    const int whole = l->channels_out / 8 * 8; /* the others one by one: a vector would read past the last pixel */
    int8_t outside[HV_MAX_CHANNELS];
    const int8_t *taps[HV_MAX_TAPS];
    hv_packed packed;
    int y, x, t, c;
    hv_pack_scales(l, &packed);
    for (c = 0; c < l->channels_in; c++) outside[c] = hv_outside(l);
    for (y = 0; y < l->height_out; y++)
        for (x = 0; x < l->width_out; x++, out += l->channels_out) {
            hv_taps(l, in, outside, y, x, taps);
            for (c = 0; c < whole; c += 8) {
                int32x4_t low = vld1q_s32(packed.bias + c), high = vld1q_s32(packed.bias + c + 4);
                for (t = 0; t < l->kernel * l->kernel; t++) {
                    const int16x8_t value = vsubq_s16(vmovl_s8(vld1_s8(taps[t] + c)), zero);
                    const int16x8_t weight = vmovl_s8(vld1_s8(l->weight + t * l->channels_out + c));
                    low = vmlal_s16(low, vget_low_s16(value), vget_low_s16(weight));
                    high = vmlal_s16(high, vget_high_s16(value), vget_high_s16(weight));
                }
                hv_store(l, &packed, low, high, c, 8, out + c);
            }
            for (c = whole; c < l->channels_out; c++) {
                int32_t sum = l->bias[c];
                for (t = 0; t < l->kernel * l->kernel; t++)
                    sum += (taps[t][c] - l->zero) * l->weight[t * l->channels_out + c];
                sum = hv_requantise(sum, l->multiplier[c], l->shift[c]);
                out[c] = (int8_t)(l->leaky ? hv_leaky(sum) : sum);
            }
        }
}

/* One output of the whole map, whose values and weights lie in the same order. */
static HV_INLINE void hv_dense(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int count = l->height_in * l->width_in * l->channels_in, whole = count / 8 * 8;
    const int16x8_t zero = vdupq_n_s16((int16_t)l->zero);
    int32x4_t low = vdupq_n_s32(0), high = vdupq_n_s32(0);
    int32_t sum;
    int i;
    for (i = 0; i < whole; i += 8) {
        const int16x8_t value = vsubq_s16(vmovl_s8(vld1_s8(in + i)), zero), weight = vmovl_s8(vld1_s8(l->weight + i));
        low = vmlal_s16(low, vget_low_s16(value), vget_low_s16(weight));
        high = vmlal_s16(high, vget_high_s16(value), vget_high_s16(weight));
    }
    sum = l->bias[0] + vaddvq_s32(vaddq_s32(low, high));
    for (i = whole; i < count; i++) sum += (in[i] - l->zero) * l->weight[i];
    sum = hv_requantise(sum, l->multiplier[0], l->shift[0]);
    out[0] = (int8_t)(l->leaky ? hv_leaky(sum) : sum);
}
