/* fuzz_snapshot.c: changes to the state file of a good snapshot, which is then loaded and run.
 *
 * An input is a list of changes of eight bytes each: where (16 bits), how many bytes (16 bits) and what;
 * what is left over at the end makes the state too short by as much.
 */
#include <errno.h>
#include "fuzz.h"

struct change {
    uint16_t at, size;
    uint32_t value;
};

static struct test_files good;

static void apply(uint8_t *state, const struct change *change) {
    size_t at = change->at % good.size, size = change->size % (sizeof change->value + 1);
    memcpy(state + at, &change->value, size < good.size - at ? size : good.size - at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static unsigned inputs;
    hl_snapshot *snapshot;
    if (!good.size)
        good = test_save(fuzz_start(), NULL);
    struct test_files files = good;
    for (; size >= sizeof(struct change); bytes += sizeof(struct change)) {
        struct change change;
        memcpy(&change, bytes, sizeof change);
        apply(files.state, &change);
        size -= sizeof change;
    }
    files.size -= size;
    int result = test_load(&files, NULL, &snapshot);
    CHECK(!result || result == -EINVAL);
    CHECK(!size || result);
    if (!result) {
        if (!hl_vm_restore(fuzz_vm(), snapshot))
            fuzz_run();
        hl_snapshot_unref(snapshot);
    }
    if (++inputs % 64 == 0)
        fuzz_check_start();
    return 0;
}
