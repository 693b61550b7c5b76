/* Scores each face of the file `faces`, REPEATS times, and prints "score hash" lines. */
#include <stdio.h>

#include "verifier.h"

uint32_t hv_hash;
void hv_look(const void *values, size_t count);

void hv_look(const void *values, size_t count) {
    const unsigned char *byte = values;
    while (count--) hv_hash = (hv_hash ^ *byte++) * 16777619u;
}

int main(void) {
    static uint8_t rgb[HV_INPUT_PX * HV_INPUT_PX * 3];
    static int32_t arena[HV_ARENA_BYTES / 4];
    FILE *file = fopen("faces", "rb");
    if (!file) return 2;
    while (fread(rgb, 1, sizeof rgb, file) == sizeof rgb) {
        int32_t score = 0;
        int i;
        for (i = 0; i < REPEATS; i++) {
            hv_hash = 2166136261u;
            score = hv_score(rgb, arena);
        }
        printf("%ld %lu\n", (long)score, (unsigned long)hv_hash);
    }
    return fclose(file);
}
