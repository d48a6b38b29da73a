/* ports.h: the instructions that talk to the host and the CPU. */
#ifndef LIBOS_PORTS_H
#define LIBOS_PORTS_H
#include "hl_abi.h"

static inline struct hl_control *control_block(void) {
    return (struct hl_control *)HL_CONTROL_ADDRESS;
}

/* Leaves the VM; all of memory may have changed on return. */
static inline void port_out(uint16_t port, uint32_t value) {
    __asm__ volatile("out %0, %1" : : "a"(value), "d"(port) : "memory");
}

static inline uint64_t time_stamp(void) {
    uint32_t low, high;
    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
                     : "a"(leaf), "c"(subleaf));
}

static inline uint64_t fs_base(void) {
    uint64_t base;
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static inline uint64_t gs_base(void) {
    uint64_t base;
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static inline void set_fs_base(uint64_t base) { __asm__ volatile("wrfsbase %0" : : "r"(base)); }

static inline void set_gs_base(uint64_t base) { __asm__ volatile("wrgsbase %0" : : "r"(base)); }

#endif
