/* basic.c: a guest for the helper's own tests: one method for each thing a guest may do or suffer. */
#include "hl_guest.h"

static uint64_t kept;

static void add(struct hl_request *request) {
    int64_t a, b;
    if (!hl_param_int(request, "a", &a) || !hl_param_int(request, "b", &b))
        return hl_reply_error(request, HL_ERROR_PARAMS, "add takes the integers a and b");
    hl_json_int(&request->result, a + b);
}
static void count(struct hl_request *request) { hl_json_uint(&request->result, ++kept); }
static void print(struct hl_request *request) {
    (void)request;
    hl_print("hello\n");
}
static void spin(struct hl_request *request) {
    (void)request;
    for (;;)
        __asm__ volatile("");
}
static void null(struct hl_request *request) {
    hl_json_int(&request->result, *(volatile int *)(uintptr_t)(8 + request->attachment_size));
}
static void read_tsc(struct hl_request *request) {
    hl_json_uint(&request->result, __builtin_ia32_rdtsc());
}
static void outsider(struct hl_request *request) {
    (void)request;
    hl_out(0x80, 0);
}
static void shoot_system(struct hl_request *request) {
    (void)request;
    *(volatile uint64_t *)0x5000 = 0;
}
static void system_call(struct hl_request *request) {
    (void)request;
    __asm__ volatile("syscall" ::: "rcx", "r11", "memory");
}
/* Writes a byte to each of `count` random pages in the middle of memory. */
static void scribble(struct hl_request *request) {
    int64_t seed, count;
    if (!hl_param_int(request, "seed", &seed) || !hl_param_int(request, "count", &count))
        return hl_reply_error(request, HL_ERROR_PARAMS,
                              "scribble takes the integers seed and count");
    for (uint64_t state = (uint64_t)seed; count > 0; count--) {
        state = state * 6364136223846793005 + 1442695040888963407;
        *(volatile uint8_t *)(0x300000 + (state >> 33) % 0x400000) = (uint8_t)(state >> 56);
    }
}
/* Gives memory back, whether it may or not. */
static void release(struct hl_request *request) {
    int64_t address, size;
    if (!hl_param_int(request, "address", &address) || !hl_param_int(request, "size", &size))
        return hl_reply_error(request, HL_ERROR_PARAMS,
                              "release takes the integers address and size");
    hl_control()->release_address = (uint64_t)address;
    hl_control()->release_size = (uint64_t)size;
    hl_out(HL_PORT_RELEASE, 0);
}
static void sleep_until(int64_t deadline_ns) {
    hl_control()->park_deadline_ns = deadline_ns;
    for (;;)
        hl_out(HL_PORT_PARK, HL_PARK_BLOCKED);
}
static void sleep_on(struct hl_request *request) {
    (void)request;
    sleep_until(INT64_MAX);
}
static void doze(struct hl_request *request) {
    (void)request;
    sleep_until(INT64_MIN);
}
const struct hl_method hl_methods[] = {{"add", add},
                                       {"count", count},
                                       {"print", print},
                                       {"spin", spin},
                                       {"null", null},
                                       {"rdtsc", read_tsc},
                                       {"outsider", outsider},
                                       {"shoot_system", shoot_system},
                                       {"syscall", system_call},
                                       {"scribble", scribble},
                                       {"release", release},
                                       {"sleep", sleep_on},
                                       {"doze", doze},
                                       {0}};
