/* fuzz_elf.c: any bytes as a guest program, which is loaded or refused. */
#include <errno.h>
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static hl_vm *vm;
    struct hl_config config = test_config();
    if (!vm)
        CHECK(!hl_vm_create(&config, &vm));
    vm->loaded = false; /* a new VM for each program would take most of the time */
    int result = hl_vm_load(vm, bytes, size);
    CHECK(!result || result == -ENOEXEC || result == -EPROTO || result == -ENOMEM);
    return 0;
}
