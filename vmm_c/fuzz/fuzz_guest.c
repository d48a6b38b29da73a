/* fuzz_guest.c: any bytes as a guest's control block and code, run in a real VM.
 *
 * The first bytes of an input go over the control block, the next eight into RSP and RDI, the rest is
 * code that runs in ring 3. After it the VM is reset, which must undo everything.
 */
#include "fuzz.h"

struct start {
    struct hl_control control;
    uint32_t stack, rdi;
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static unsigned inputs;
    hl_vm *vm = fuzz_vm();
    struct start start;
    struct hl_registers registers;
    CHECK(!hl_vm_restore(vm, fuzz_start()) && !hl_vm_get_registers(vm, &registers));
    if (size < sizeof start || size - sizeof start > 0x10000)
        return -1; /* of no use in the corpus */
    memcpy(&start, bytes, sizeof start);
    CHECK(!hl_vm_write(vm, HL_CONTROL_ADDRESS, &start.control, sizeof start.control));
    CHECK(!hl_vm_write(vm, FUZZ_PLACE, bytes + sizeof start, size - sizeof start));
    registers.rip = FUZZ_PLACE;
    registers.rsp = start.stack;
    registers.rdi = start.rdi;
    CHECK(!hl_vm_set_registers(vm, &registers));
    fuzz_run();
    if (++inputs % 64 == 0)
        fuzz_check_start();
    return 0;
}
