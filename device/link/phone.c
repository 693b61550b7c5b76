/* On the phone: scores every picture of a file, one score a line, then times the first picture's inference.
 *
 *     phone FACES RUNS        after the scores: "times", then nanoseconds a line, then "peak" and the peak memory in kB
 *
 * Compiled after the person's model.c, which is in the same file above this. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long peak_kb(void) {
    char line[256];
    long found = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, "VmHWM:", 6) == 0) found = atol(line + 6);
    if (status) fclose(status);
    return found;
}

int main(int argc, char **argv) {
    static uint8_t rgb[HV_INPUT_PX * HV_INPUT_PX * 3], first[sizeof rgb];
    void *arena = malloc(HV_ARENA_BYTES);
    FILE *faces = argc == 3 ? fopen(argv[1], "rb") : NULL;
    long run, runs = argc == 3 ? atol(argv[2]) : 0, read = 0;
    volatile int32_t sink = 0;
    if (!faces || !arena) return 2;
    while (fread(rgb, 1, sizeof rgb, faces) == sizeof rgb) {
        if (read++ == 0) memcpy(first, rgb, sizeof rgb);
        printf("%ld\n", (long)hv_score(rgb, arena));
    }
    printf("times\n");
    for (run = -20; run < runs; run++) { /* the first twenty warm up */
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        sink += hv_score(first, arena);
        clock_gettime(CLOCK_MONOTONIC, &end);
        if (run >= 0) printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec));
    }
    printf("peak\n%ld\n", peak_kb());
    fclose(faces);
    free(arena);
    return 0;
}
