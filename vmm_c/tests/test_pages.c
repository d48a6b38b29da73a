/* test_pages.c: sets of pages, against one byte a page. */
#include "harness.h"
#include "internal.h"

enum { MOST = 200 };

static void compare(const struct page_set *set, const uint8_t *model) {
    size_t count = 0;
    for (size_t page = 0; page < set->pages; page++) {
        CHECK(page_set_has(set, page) == model[page]);
        count += model[page];
    }
    CHECK(page_set_count(set) == count);
    for (size_t from = 0; from <= set->pages; from++) {
        size_t next = from, end;
        while (next < set->pages && !model[next])
            next++;
        CHECK(page_set_next(set, from) == next);
        for (end = next; end < set->pages && model[end];)
            end++;
        if (next < set->pages)
            CHECK(page_set_run_end(set, next) == end);
    }
}

TEST(a_set_of_pages_is_what_was_put_into_it) {
    uint64_t state = 1;
    for (size_t pages = 1; pages <= MOST; pages++) {
        struct page_set set, other;
        uint8_t model[MOST] = {0};
        CHECK(!page_set_init(&set, pages) && !page_set_init(&other, pages));
        compare(&set, model);
        for (int round = 0; round < 8; round++) {
            size_t first = random_below(&state, pages),
                   count = random_below(&state, pages - first + 1);
            page_set_add_range(round & 1 ? &set : &other, first, count);
            page_set_add(&set, &other);
            memset(model + first, 1, count);
            compare(&set, model);
        }
        page_set_clear(&set);
        memset(model, 0, sizeof model);
        compare(&set, model);
        page_set_free(&set);
        page_set_free(&other);
    }
}
