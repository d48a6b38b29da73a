/* fuzz_snapshot.c: changes to the vCPU state of a good snapshot, which is then loaded and run.
 *
 * An input is a list of changes of eight bytes each: where (16 bits), how many bytes (16 bits) and what;
 * what is left over at the end makes the state too short by as much.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include "fuzz.h"

struct change {
    uint16_t at, size;
    uint32_t value;
};

static uint8_t good[65536];
static size_t good_size = sizeof good;

static int memory_file(void) {
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        CHECK(fd >= 0 && !hl_snapshot_save(fuzz_start(), fd, good, &good_size));
    }
    return fd;
}

static void apply(uint8_t *state, const struct change *change) {
    size_t at = change->at % good_size, size = change->size % (sizeof change->value + 1);
    memcpy(state + at, &change->value, size < good_size - at ? size : good_size - at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static uint8_t state[sizeof good];
    static unsigned inputs;
    struct hl_config config = test_config();
    hl_snapshot *snapshot;
    int fd = memory_file();
    memcpy(state, good, good_size);
    for (; size >= sizeof(struct change); bytes += sizeof(struct change)) {
        struct change change;
        memcpy(&change, bytes, sizeof change);
        apply(state, &change);
        size -= sizeof change;
    }
    int result = hl_snapshot_load(&config, fd, state, good_size - size, &snapshot);
    CHECK(size ? result == -EINVAL : !result);
    if (!result) {
        if (!hl_vm_restore(fuzz_vm(), snapshot))
            fuzz_run();
        hl_snapshot_unref(snapshot);
    }
    if (++inputs % 64 == 0)
        fuzz_check_start();
    return 0;
}
