/* text.h: builds text in a fixed buffer, for messages and the files of /proc. */
#ifndef LIBOS_TEXT_H
#define LIBOS_TEXT_H
#include "libos.h"

/* What does not fit is left out; `used` never exceeds `room`. */
struct text {
    char *to;
    size_t room, used;
};

static inline void text_bytes(struct text *text, const char *from, size_t size) {
    size_t left = text->room - text->used;
    size = size < left ? size : left;
    memcpy(text->to + text->used, from, size);
    text->used += size;
}

static inline void text_string(struct text *text, const char *from) {
    text_bytes(text, from, strlen(from));
}

/* `base` 8, 10 or 16, padded with zeros to `width` digits. */
static inline void text_number(struct text *text, uint64_t value, unsigned base, unsigned width) {
    char digits[64];
    unsigned at = sizeof digits;
    do
        digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base) || sizeof digits - at < width);
    text_bytes(text, digits + at, sizeof digits - at);
}

static inline void text_decimal(struct text *text, uint64_t value) {
    text_number(text, value, 10, 1);
}

#endif
