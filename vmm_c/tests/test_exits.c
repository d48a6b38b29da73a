/* test_exits.c: ports, every byte of the entry code, and every exit reason that KVM knows. */
#include "harness.h"
#include "internal.h"

/* The functions of run.c that no other file sees; those that others see, and the C library, renamed. */
#define on_exit helper_on_exit
#define hl_vm_run inner_vm_run
#define run_empty_console inner_empty_console
#include "../src/run.c"
#undef hl_vm_run
#undef run_empty_console

#define CODE 0x400000

/* Runs machine code with RAX, RDX and RSP as given, from the same beginning each time. */
static struct hl_exit run_code(hl_vm *vm, hl_snapshot *start, uint64_t rip, uint64_t rdx) {
    const struct hl_limits soon = {test_now_ns() + 1000000000, INT64_MAX};
    struct hl_registers registers;
    struct hl_exit left;
    CHECK(!hl_vm_restore(vm, start) && !hl_vm_get_registers(vm, &registers));
    registers.rip = rip;
    registers.rdx = rdx;
    registers.rax = 7;
    registers.rsp = CODE;
    CHECK(!hl_vm_set_registers(vm, &registers) && !hl_vm_run(vm, 0, &soon, &left));
    return left;
}

static hl_vm *vm_with_code(const char *code, size_t size, hl_snapshot **start) {
    hl_vm *vm = test_vm();
    CHECK(!hl_vm_write(vm, CODE, code, size) && !hl_vm_snapshot(vm, start));
    return vm;
}

static bool is_expected(uint32_t port, const struct hl_exit *left) {
    switch (port) {
    case HL_PORT_PARK:    /* for no known reason */
    case HL_PORT_RELEASE: /* of nothing that may be released */
        return left->kind == HL_EXIT_VIOLATION;
    case HL_PORT_CALL: return left->kind == HL_EXIT_CALL;
    case HL_PORT_CONSOLE: return left->kind == HL_EXIT_CONSOLE;
    case HL_PORT_EXIT: return left->kind == HL_EXIT_ENDED && left->value == 7;
    case HL_PORT_FAULT: return left->kind == HL_EXIT_FAULT;
    /* These go on, to the instruction behind, which is none. */
    case HL_PORT_FAULT_ADDRESS: return left->kind == HL_EXIT_FAULT && left->vector == 6;
    }
    return left->kind == HL_EXIT_VIOLATION || (left->kind == HL_EXIT_FAULT && left->vector == 13);
}

/* All that a machine of this kind has anything at, and one in eleven of the others. */
TEST(a_port_does_what_the_abi_says_or_ends_the_guest) {
    hl_snapshot *start;
    hl_vm *vm = vm_with_code("\xef\x0f\x0b", 3, &start); /* out %eax, %dx; ud2 */
    for (uint32_t port = 0; port <= 0xffff; port += port < 0x1000 ? 1 : 11) {
        struct hl_exit left = run_code(vm, start, CODE, port);
        if (!is_expected(port, &left))
            fprintf(stderr, "port %#x: kind %u\n", port, left.kind);
        CHECK(is_expected(port, &left));
    }
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

/* No syscall and no exception led there, so nothing has been prepared for it. */
TEST(entering_the_hosts_code_at_any_byte_ends_or_stops_the_guest) {
    hl_snapshot *start;
    hl_vm *vm = vm_with_code("\x0f\x0b", 2, &start);
    for (uint64_t at = HL_SYSTEM_CODE; at < HL_SYSTEM_CODE + HL_PAGE_SIZE; at++) {
        struct hl_exit left = run_code(vm, start, at, 0);
        CHECK(left.kind == HL_EXIT_FAULT || left.kind == HL_EXIT_VIOLATION);
    }
    CHECK(!hl_vm_restore(vm, start));
    CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    hl_vm_close(vm);
    hl_snapshot_unref(start);
}

/* What this machine's KVM never gives, another one's may. */
TEST(every_exit_reason_has_a_report) {
    hl_vm *vm = test_vm();
    struct kvm_run *run = vm->run;
    for (uint32_t reason = 0; reason < 256; reason++) {
        struct hl_exit left = {0};
        uint32_t kind = reason == KVM_EXIT_INTR ? HL_EXIT_SIGNAL : HL_EXIT_VIOLATION;
        run->exit_reason = reason;
        run->io.direction = KVM_EXIT_IO_IN;
        CHECK(on_exit(vm, &no_limits, &left) == 1 && left.kind == kind);
        CHECK(kind == HL_EXIT_SIGNAL || (left.value == reason && strstr(hl_error_text(), "KVM")));
    }
    hl_vm_close(vm);
}
