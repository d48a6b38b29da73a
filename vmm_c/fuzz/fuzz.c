/* fuzz.c: the VM that the fuzzers share, and how far a guest is let go on in it. */
#define _GNU_SOURCE
#include "fuzz.h"

/* The tests' own helpers, without their main. */
#define main harness_main
#include "../tests/harness.c"
#undef main

hl_vm *fuzz_vm(void) {
    static hl_vm *vm;
    if (!vm)
        vm = test_vm();
    return vm;
}

hl_snapshot *fuzz_start(void) {
    static hl_snapshot *start;
    if (!start)
        CHECK(!hl_vm_snapshot(fuzz_vm(), &start));
    return start;
}

void fuzz_check_start(void) {
    static const char first[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}";
    char text[sizeof first - 1];
    hl_vm *vm = fuzz_vm();
    CHECK(!hl_vm_restore(vm, fuzz_start()));
    CHECK(test_call(vm, "count", "", &no_limits).kind == HL_EXIT_PARK);
    CHECK(!hl_vm_read(vm, hl_vm_out_address(vm) + sizeof(struct hl_frame), text, sizeof text));
    CHECK(!memcmp(text, first, sizeof text));
}

static bool goes_on(const struct hl_exit *left) {
    return left->kind == HL_EXIT_CALL || left->kind == HL_EXIT_PARK ||
           left->kind == HL_EXIT_CONSOLE || left->kind == HL_EXIT_SIGNAL;
}

void fuzz_run(void) {
    hl_vm *vm = fuzz_vm();
    struct hl_limits limits = {test_now_ns() + 2000000, INT64_MAX};
    struct hl_registers registers;
    for (int exits = 0; exits < 50; exits++) {
        struct hl_exit left;
        int result = hl_vm_run(vm, 0, &limits, &left);
        CHECK(result <= 0 && hl_error_text()[0]);
        CHECK(result || (left.kind >= HL_EXIT_CALL && left.kind <= HL_EXIT_SIGNAL));
        CHECK(left.console_used <= test_config().console_size);
        if (result || !goes_on(&left))
            break;
    }
    (void)hl_vm_get_registers(vm, &registers);
}
