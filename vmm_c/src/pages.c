/* pages.c: sets of pages, one bit each. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

static size_t words_of(const struct page_set *set) { return (set->pages + 63) / 64; }

int page_set_init(struct page_set *set, size_t pages) {
    set->pages = pages;
    set->words = calloc(words_of(set), sizeof *set->words);
    return set->words ? 0 : hl_fail(-ENOMEM, "no memory for the set of %zu pages", pages);
}

void page_set_free(struct page_set *set) {
    free(set->words);
    *set = (struct page_set){0};
}

void page_set_clear(struct page_set *set) {
    memset(set->words, 0, words_of(set) * sizeof *set->words);
}

size_t page_set_count(const struct page_set *set) {
    size_t count = 0;
    for (size_t i = 0; i < words_of(set); i++)
        count += (size_t)__builtin_popcountll(set->words[i]);
    return count;
}

void page_set_add(struct page_set *set, const struct page_set *other) {
    for (size_t i = 0; i < words_of(set); i++)
        set->words[i] |= other->words[i];
}

void page_set_add_range(struct page_set *set, size_t first, size_t count) {
    for (size_t page = first; page < first + count; page++)
        set->words[page / 64] |= UINT64_C(1) << (page % 64);
}

size_t page_set_next(const struct page_set *set, size_t from) {
    if (from >= set->pages)
        return set->pages;
    size_t i = from / 64;
    uint64_t word = set->words[i] & (~UINT64_C(0) << (from % 64));
    while (!word) {
        if (++i == words_of(set))
            return set->pages;
        word = set->words[i];
    }
    return i * 64 + (size_t)__builtin_ctzll(word);
}

size_t page_set_run_end(const struct page_set *set, size_t first) {
    size_t i = first / 64;
    uint64_t gap = ~set->words[i] & (~UINT64_C(0) << (first % 64));
    while (!gap) {
        if (++i == words_of(set))
            return set->pages;
        gap = ~set->words[i];
    }
    size_t end = i * 64 + (size_t)__builtin_ctzll(gap);
    return end < set->pages ? end : set->pages;
}
