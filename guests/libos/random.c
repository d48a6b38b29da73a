/* random.c: random bytes: ChaCha20 (RFC 8439) with fast key erasure, seeded by the host. */
#include "process.h"
#include <linux/random.h>

#define BLOCK_WORDS 16
#define KEY_WORDS 8

static uint32_t key[KEY_WORDS];
static uint64_t seeded_epoch; /* the host's epochs begin at 1 */

static inline uint32_t rotate(uint32_t value, int bits) {
    return value << bits | value >> (32 - bits);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    *a += *b, *d = rotate(*d ^ *a, 16);
    *c += *d, *b = rotate(*b ^ *c, 12);
    *a += *b, *d = rotate(*d ^ *a, 8);
    *c += *d, *b = rotate(*b ^ *c, 7);
}

/* RFC 8439, section 2.3, with a zero nonce: every key is used for one request only. */
static void chacha20_block(uint32_t counter, uint32_t out[BLOCK_WORDS]) {
    uint32_t state[BLOCK_WORDS] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    memcpy(state + 4, key, sizeof key);
    state[12] = counter;
    memcpy(out, state, sizeof state);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++)
            quarter_round(&out[i], &out[4 + i], &out[8 + i], &out[12 + i]);
        for (int i = 0; i < 4; i++)
            quarter_round(&out[i], &out[4 + (i + 1) % 4], &out[8 + (i + 2) % 4],
                          &out[12 + (i + 3) % 4]);
    }
    for (int i = 0; i < BLOCK_WORDS; i++)
        out[i] += state[i];
}

/* A new epoch means that this memory has come to life again, perhaps more than once. */
static void reseed(void) {
    const struct hl_boot_info *info = boot_info();
    if (seeded_epoch == info->epoch)
        return;
    seeded_epoch = info->epoch;
    for (int i = 0; i < KEY_WORDS; i++)
        key[i] ^= (uint32_t)info->seed[4 * i] | (uint32_t)info->seed[4 * i + 1] << 8 |
                  (uint32_t)info->seed[4 * i + 2] << 16 | (uint32_t)info->seed[4 * i + 3] << 24;
}

void random_bytes(void *to, size_t size) {
    uint32_t first[BLOCK_WORDS], block[BLOCK_WORDS];
    uint8_t *out = to;
    reseed();
    chacha20_block(0, first);
    for (uint32_t counter = 1; size; counter++) {
        size_t part = size < sizeof block ? size : sizeof block;
        chacha20_block(counter, block);
        memcpy(out, block, part);
        out += part;
        size -= part;
    }
    /* What was given out cannot be found again from the memory left behind. */
    memcpy(key, first, sizeof key);
}

long sys_getrandom(const struct syscall_arguments *arguments) {
    void *to = (void *)arguments->a[0];
    size_t size = arguments->a[1];
    uint64_t flags = arguments->a[2];
    uint64_t sources = GRND_RANDOM | GRND_INSECURE;
    if (flags & ~(uint64_t)(GRND_NONBLOCK | sources) || (flags & sources) == sources)
        return -EINVAL;
    if (size > INT32_MAX)
        size = INT32_MAX;
    if (!user_range_ok(to, size))
        return -EFAULT;
    random_bytes(to, size);
    return (long)size;
}
