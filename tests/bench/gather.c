/* How fast this machine reads independent random words: the bound for any batch search.
 * gather(words, count) -> million reads a second. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double gather(uint32_t words, uint32_t count)
{
    uint32_t *memory = calloc(words, 4), *indexes = malloc(4 * (size_t)count), i, sum = 0;
    uint64_t state = 88172645463325252u;
    volatile uint32_t sink;
    double began, took;

    if (memory == NULL || indexes == NULL)
        return 0;
    for (i = 0; i < words; i++)
        memory[i] = i;
    for (i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        indexes[i] = (uint32_t)(state % words);
    }
    began = now();
    for (i = 0; i < count; i++)
        sum += memory[indexes[i]];
    took = now() - began;
    sink = sum;
    (void)sink;
    free(memory);
    free(indexes);
    return count / took / 1e6;
}
