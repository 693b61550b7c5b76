/* The same sums with AVX-512 VNNI or AVX2, bit for bit. The lanes of a vector of sums are outputs that lie side by side
   in memory; one step adds HV_GROUP products to each. Four vectors are requantised at once, to one vector of bytes.
   What is made of weights and inputs on the way lies on the stack. */
#include <immintrin.h>

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
@vectors_avx512@
#else
@vectors_avx2@
#endif

#define HV_VECTORS(count) (((count) + HV_LANES - 1) / HV_LANES)
#define HV_GROUPS(count) (((count) + HV_GROUP - 1) / HV_GROUP)
#define HV_RUN (4 * HV_LANES) /* outputs that are requantised at once */
#define HV_REPEATED (2 * (HV_MAX_CHANNELS + HV_RUN)) /* what is left of the last run, too */

#define HV_ALIGNED __attribute__((aligned(64)))

/* A layer's numbers for each channel, again and again, so that any HV_RUN outputs in a row find theirs. In its lanes 0,
   2, ... a vector of `odd` has the multipliers of lanes 1, 3, ...; `shift` keeps one bit, which is there to be rounded. */
typedef struct {
    HV_ALIGNED int32_t bias[HV_REPEATED];
    HV_ALIGNED int32_t even[HV_REPEATED];
    HV_ALIGNED int32_t odd[HV_REPEATED];
    HV_ALIGNED int32_t shift[HV_REPEATED];
} hv_channels;

static HV_INLINE void hv_repeat(void *to, const void *from, int channels, int bytes) {
    int o;
    for (o = 0; o < channels + HV_RUN; o += channels)
        __builtin_memcpy((char *)to + o * bytes, from, (unsigned)(channels * bytes));
}

static HV_INLINE void hv_read_channels(const hv_layer *l, hv_channels *channels) {
    int32_t shift[HV_MAX_CHANNELS];
    int o;
    for (o = 0; o < l->channels_out; o++) shift[o] = l->shift[o] - 1;
    hv_repeat(channels->bias, l->bias, l->channels_out, 4);
    hv_repeat(channels->even, l->multiplier, l->channels_out, 4);
    hv_repeat(channels->odd, channels->even + 1, l->channels_out, 4);
    hv_repeat(channels->shift, shift, l->channels_out, 4);
}

/* What HV_MOVED and the zero point add to outputs whose weights add up to `sum`. */
static HV_INLINE void hv_take_back(const hv_layer *l, int32_t *bias, hv_vector sum) {
    const hv_vector more = HV_V(mullo_epi32)(sum, HV_V(set1_epi32)(HV_MOVED + l->zero));
    hv_save(bias, HV_V(sub_epi32)(hv_load(bias), more));
}

/* Twice the outputs. */
static HV_INLINE hv_vector hv_scaled(hv_vector sums, const hv_channels *channels, int o) {
    const hv_vector even = HV_V(mul_epi32)(sums, hv_load(channels->even + o));
    const hv_vector odd = HV_V(mul_epi32)(HV_V(srli_epi64)(sums, 32), hv_load(channels->odd + o));
    return HV_V(srav_epi32)(hv_upper(even, odd), hv_load(channels->shift + o));
}

/* As hv_leaky does: (x * factor + 128) >> 8 is a rounding multiplication by factor * 128, which has 16 bits. */
static HV_INLINE hv_vector hv_activated(hv_vector x) {
    const hv_vector low = HV_V(min_epi16)(x, HV_V(set1_epi16)(127)); /* what is too small saturates later */
    const hv_vector above = HV_V(add_epi16)(HV_V(mulhrs_epi16)(low, HV_V(set1_epi16)((@POSITIVE@ - 256) * 128)), low);
    const hv_vector below = HV_V(mulhrs_epi16)(low, HV_V(set1_epi16)(@NEGATIVE@ * 128));
    return HV_V(add_epi16)(HV_V(max_epi16)(above, below), HV_V(set1_epi16)(@LEAKY_ZERO@));
}

/* Four vectors of sums to one of outputs. The first one's channels begin at `o`, each further one's `step` later. */
static HV_INLINE hv_vector hv_outputs(const hv_layer *l, const hv_vector *sums, const hv_channels *channels, int o,
                                      int step) {
    const hv_vector half = HV_V(set1_epi16)(1 << 14);
    hv_vector low = HV_V(packs_epi32)(hv_scaled(sums[0], channels, o), hv_scaled(sums[1], channels, o + step));
    hv_vector high = HV_V(packs_epi32)(hv_scaled(sums[2], channels, o + 2 * step),
                                       hv_scaled(sums[3], channels, o + 3 * step));
    low = HV_V(mulhrs_epi16)(low, half), high = HV_V(mulhrs_epi16)(high, half);
    if (l->leaky) low = hv_activated(low), high = hv_activated(high);
    return hv_turn(HV_V(packs_epi16)(low, high));
}

static HV_INLINE void hv_put(__m128i bytes, int8_t *to, int count) {
    int64_t eight;
    if (count == 16) {
        _mm_storeu_si128((__m128i *)to, bytes);
        return;
    }
    if (count >= 8) {
        _mm_storel_epi64((__m128i *)to, bytes);
        bytes = _mm_unpackhi_epi64(bytes, bytes);
        to += 8;
    }
    eight = _mm_cvtsi128_si64(bytes);
    __builtin_memcpy(to, &eight, (unsigned)(count % 8));
}

static HV_INLINE void hv_move(const int8_t *in, hv_row *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (hv_row)(in[i] + HV_MOVED);
}

static HV_INLINE void hv_border(const hv_layer *l, hv_row *out, int count) {
    int i;
    for (i = 0; i < count; i++) out[i] = (hv_row)(l->zero + HV_MOVED);
}

/* HV_TILE vectors of outputs, or fewer, of four pixels, whose windows begin at `corners`. */
static HV_INLINE void hv_tile(const hv_layer *l, const hv_row *const *corners, int row, const hv_vector *weights,
                              const hv_channels *channels, int block, int blocks, int8_t *const *out) {
    const int run = HV_GROUPS(l->kernel * l->channels_in), all = HV_VECTORS(l->channels_out);
    hv_vector sums[HV_TILE][4];
    int b, p, i, g;
    for (b = 0; b < blocks; b++)
        for (p = 0; p < 4; p++) sums[b][p] = hv_load(channels->bias + (block + b) * HV_LANES);
    for (i = 0; i < l->kernel; i++)
        for (g = 0; g < run; g++)
            for (p = 0; p < 4; p++) {
                int32_t group;
                hv_vector x;
                __builtin_memcpy(&group, corners[p] + i * row + g * HV_GROUP, sizeof group);
                x = HV_V(set1_epi32)(group);
                for (b = 0; b < blocks; b++)
                    sums[b][p] = hv_dot(sums[b][p], x, weights[(i * run + g) * all + block + b]);
            }
    for (b = 0; b < blocks; b++) {
        const int o = (block + b) * HV_LANES, left = l->channels_out - o;
        const hv_vector bytes = hv_outputs(l, sums[b], channels, o, 0);
        for (p = 0; p < 4; p++) hv_put(hv_quarter(bytes, p), out[p] + o, left < HV_LANES ? left : HV_LANES);
    }
}

/* The input with its border, as rows of hv_row. */
static HV_INLINE void hv_read_map(const hv_layer *l, const int8_t *in, hv_row *map) {
    const int edge = l->padding * l->channels_in, width = l->width_in * l->channels_in, row = width + 2 * edge;
    int y;
    for (y = -l->padding; y < l->height_in + l->padding; y++, map += row) {
        const int inside = y >= 0 && y < l->height_in;
        hv_border(l, map, inside ? edge : row);
        if (inside) hv_move(in + y * width, map + edge, width);
        if (inside) hv_border(l, map + edge + width, edge);
    }
    hv_border(l, map, HV_GROUP); /* the last group may reach that far */
}

/* The weights of each row of the kernel in groups; the bias takes back what was added to the inputs. */
static HV_INLINE void hv_read_weights(const hv_layer *l, hv_vector *weights, hv_channels *channels) {
    const int run = l->kernel * l->channels_in, all = HV_VECTORS(l->channels_out);
    int b, i, g;
    hv_read_channels(l, channels);
    for (b = 0; b < all; b++) {
        const int o = b * HV_LANES;
        hv_vector sum = HV_V(set1_epi32)(0);
        for (i = 0; i < l->kernel; i++)
            for (g = 0; g < run; g += HV_GROUP) {
                const int8_t *from = l->weight + (i * run + g) * l->channels_out + o;
                hv_vector *const to = weights + (i * HV_GROUPS(run) + g / HV_GROUP) * all + b;
                *to = hv_group(from, l->channels_out, run - g, l->channels_out - o);
                sum = hv_dot(sum, HV_ONES, *to);
            }
        hv_take_back(l, channels->bias + o, sum);
    }
}

static HV_INLINE void hv_conv(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int row = (l->width_in + 2 * l->padding) * l->channels_in, pixels = l->height_out * l->width_out;
    const int all = HV_VECTORS(l->channels_out), rest = all % HV_TILE;
    HV_ALIGNED hv_row map[HV_MAX_MAP + HV_GROUP];
    hv_vector weights[HV_MAX_KERNEL * HV_GROUPS(HV_MAX_RUN) * HV_VECTORS(HV_MAX_CHANNELS)];
    hv_channels channels;
    int pixel, p, b;
    hv_read_map(l, in, map);
    hv_read_weights(l, weights, &channels);
    for (pixel = 0; pixel < pixels; pixel += 4) {
        const hv_row *corners[4];
        int8_t *to[4];
        for (p = 0; p < 4; p++) {
            const int at = pixel + p < pixels ? pixel + p : pixels - 1; /* the last one may be made several times */
            corners[p] = map + at / l->width_out * l->stride * row + at % l->width_out * l->stride * l->channels_in;
            to[p] = out + at * l->channels_out;
        }
        for (b = 0; b + HV_TILE <= all; b += HV_TILE) hv_tile(l, corners, row, weights, &channels, b, HV_TILE, to);
        if (rest) hv_tile(l, corners, row, weights, &channels, all - rest, rest, to);
    }
}

/* What a depthwise layer needs of one row of its input: for HV_GROUP columns of the kernel at a time, the values that
   each output multiplies. Made once for all rows of the kernel. */
#define HV_COLUMNS HV_GROUPS(HV_MAX_KERNEL)
typedef hv_vector hv_columns[HV_COLUMNS][HV_MAX_OUT_ROW / HV_LANES + 4];

static HV_INLINE void hv_read_row(const hv_layer *l, const int8_t *in, int y, hv_columns columns) {
    const int channels = l->channels_in, wide = (l->width_in + 2 * l->padding + l->stride - 1) / l->stride;
    HV_ALIGNED hv_row row[HV_MAX_PADDED_ROW + 2 * HV_RUN]; /* columns that outputs side by side meet lie side by side */
    const hv_row *runs[HV_GROUP];
    int x, j, t, g;
    for (x = 0; x < wide * l->stride; x++) {
        const int from = x - l->padding;
        hv_row *to = row + (x % l->stride * wide + x / l->stride) * channels;
        if (y < 0 || y >= l->height_in || from < 0 || from >= l->width_in)
            hv_border(l, to, channels);
        else
            hv_move(in + (y * l->width_in + from) * channels, to, channels);
    }
    hv_border(l, row + wide * l->stride * channels, 2 * HV_RUN);
    for (j = 0; j < l->width_out * channels; j += HV_RUN)
        for (g = 0; g < HV_GROUPS(l->kernel); g++) {
            for (t = 0; t < HV_GROUP; t++) {
                const int column = g * HV_GROUP + t < l->kernel ? g * HV_GROUP + t : 0; /* beyond, it weighs nothing */
                runs[t] = row + (column % l->stride * wide + column / l->stride) * channels + j;
            }
            hv_interleave(runs, columns[g] + j / HV_LANES);
        }
}

/* The weights in the same groups, one of each channel, repeated as the channels' other numbers are. */
typedef int32_t hv_repeated[HV_COLUMNS][(HV_REPEATED + 15) / 16 * 16]; /* aligned, each */

static HV_INLINE void hv_read_columns(const hv_layer *l, hv_repeated *weights, hv_channels *channels) {
    const int count = l->channels_out;
    int i, g, t, v, c;
    hv_read_channels(l, channels);
    for (i = 0; i < l->kernel; i++)
        for (g = 0; g < HV_GROUPS(l->kernel); g++) {
            hv_row own[HV_MAX_CHANNELS], repeated[HV_GROUP][HV_REPEATED];
            for (t = 0; t < HV_GROUP; t++) {
                const int column = g * HV_GROUP + t, real = column < l->kernel;
                const int8_t *from = l->weight + (i * l->kernel + (real ? column : 0)) * count;
                for (c = 0; c < count; c++) own[c] = (hv_row)(real ? from[c] : 0);
                hv_repeat(repeated[t], own, count, sizeof own[0]);
            }
            for (c = 0; c < count + HV_RUN - 1; c += HV_RUN) {
                const hv_row *runs[HV_GROUP];
                hv_vector groups[4];
                for (t = 0; t < HV_GROUP; t++) runs[t] = repeated[t] + c;
                hv_interleave(runs, groups);
                for (v = 0; v < 4; v++) {
                    hv_save(weights[i][g] + c + v * HV_LANES, groups[v]);
                    hv_take_back(l, channels->bias + c + v * HV_LANES,
                                 hv_dot(HV_V(set1_epi32)(0), HV_ONES, groups[v]));
                }
            }
        }
}

/* HV_RUN outputs of one row, from its output `j` on. */
static HV_INLINE hv_vector hv_column_sums(const hv_layer *l, hv_columns *rows, int first, hv_repeated *weights,
                                          const hv_channels *channels, int j) {
    const int c = j % l->channels_out;
    hv_vector sums[4];
    int i, g, v;
    for (v = 0; v < 4; v++) sums[v] = hv_load(channels->bias + c + v * HV_LANES);
    for (i = 0; i < l->kernel; i++)
        for (g = 0; g < HV_GROUPS(l->kernel); g++)
            for (v = 0; v < 4; v++)
                sums[v] = hv_dot(sums[v], rows[(first + i) % l->kernel][g][j / HV_LANES + v],
                                 hv_load(weights[i][g] + c + v * HV_LANES));
    return hv_outputs(l, sums, channels, c, HV_LANES);
}

static HV_INLINE void hv_depthwise(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int width = l->width_out * l->channels_out;
    hv_columns rows[HV_MAX_KERNEL]; /* the last rows read, each at its number modulo the kernel's height */
    HV_ALIGNED hv_repeated weights[HV_MAX_KERNEL];
    hv_channels channels;
    int y, j, read = 0;
    hv_read_columns(l, weights, &channels);
    for (y = 0; y < l->height_out; y++, out += width) {
        for (; read < y * l->stride + l->kernel; read++) hv_read_row(l, in, read - l->padding, rows[read % l->kernel]);
        for (j = 0; j < width; j += HV_RUN) {
            const hv_vector bytes = hv_column_sums(l, rows, y * l->stride, weights, &channels, j);
            if (width - j >= HV_RUN)
                hv_save(out + j, bytes);
            else
                __builtin_memcpy(out + j, &bytes, (unsigned)(width % HV_RUN));
        }
    }
}

/* One output of the whole map, whose values and weights lie in the same order. */
static HV_INLINE void hv_dense(const hv_layer *l, const int8_t *in, int8_t *out) {
    const int count = l->height_in * l->width_in * l->channels_in, step = HV_LANES * HV_GROUP;
    const int whole = count / step * step;
    hv_vector sums[4] = {HV_V(set1_epi32)(0)}, weights = sums[0];
    int32_t total = l->bias[0], lanes[2][HV_LANES];
    hv_channels channels;
    int i;
    for (i = 0; i < whole; i += step) {
        const hv_vector weight = hv_values(l->weight + i);
        sums[0] = hv_dot(sums[0], hv_moved(hv_values(in + i)), weight);
        weights = hv_dot(weights, HV_ONES, weight);
    }
    hv_save(lanes[0], sums[0]), hv_save(lanes[1], weights);
    for (i = 0; i < HV_LANES; i++) total += lanes[0][i] - (HV_MOVED + l->zero) * lanes[1][i];
    for (i = whole; i < count; i++) total += (in[i] - l->zero) * l->weight[i];
    hv_read_channels(l, &channels);
    sums[0] = sums[1] = sums[2] = sums[3] = HV_V(set1_epi32)(total);
    hv_save(lanes, hv_outputs(l, sums, &channels, 0, 0));
    __builtin_memcpy(out, lanes, 1);
}

static HV_INLINE void hv_add(const int8_t *a, const int8_t *b, int8_t *out, int count) {
    int i;
    for (i = 0; i + HV_RUN <= count; i += HV_RUN) hv_save(out + i, HV_V(adds_epi8)(hv_load(a + i), hv_load(b + i)));
    for (; i < count; i++) out[i] = (int8_t)hv_clip(a[i] + b[i]);
}
