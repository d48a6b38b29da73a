/* clock_page.h: reads the host's clock page; for the library OS and the vDSO. */
#ifndef LIBOS_CLOCK_PAGE_H
#define LIBOS_CLOCK_PAGE_H
#include "ports.h"

enum clock_base { CLOCK_BASE_REALTIME, CLOCK_BASE_MONOTONIC };

static inline int64_t clock_read(enum clock_base which) {
    const volatile struct hl_clock *clock =
        &((const volatile struct hl_boot_info *)HL_BOOT_INFO_ADDRESS)->clock;
    for (;;) {
        uint64_t start = clock->tsc, multiplier = clock->multiplier;
        int64_t base = which == CLOCK_BASE_REALTIME ? clock->realtime_ns : clock->monotonic_ns;
        unsigned __int128 ticks = time_stamp() - start;
        /* Left and resumed in between? Then the host has refreshed the page. */
        if (clock->tsc == start)
            return base + (int64_t)(ticks * multiplier >> 32);
    }
}

#endif
