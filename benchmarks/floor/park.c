/* park.c: a guest that answers, and dirties as many pages as it is told: the cheapest guest there is. */
#include "hl_guest.h"

/* Where the pages are that `touch` writes to. */
#define AREA 0x1000000

static void nothing(struct hl_request *request) { (void)request; }

static void touch(struct hl_request *request) {
    int64_t pages;
    if (!hl_param_int(request, "pages", &pages))
        return hl_reply_error(request, HL_ERROR_PARAMS, "touch takes the integer pages");
    for (int64_t page = 0; page < pages; page++)
        ++*(volatile uint64_t *)(AREA + page * HL_PAGE_SIZE);
}

const struct hl_method hl_methods[] = {{"nothing", nothing}, {"touch", touch}, {0}};
