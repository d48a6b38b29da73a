/* hl_json.h: JSON (RFC 8259) for guests: a writer over a fixed buffer, a strict reader over text.
 *
 * Header only, freestanding, no allocation, no recursion. Strings are bytes with a size. A byte
 * that is not part of valid UTF-8 is written as U+0000 and two lower-case hex digits, as
 * docs/architecture.md says for names; hl_json_get_name undoes that.
 */
#ifndef HL_JSON_H
#define HL_JSON_H
#include <stddef.h>
#include <stdint.h>

/* Deepest nesting the reader takes. */
#define HL_JSON_DEPTH 64

/* Length of the valid UTF-8 sequence at `text` (RFC 3629, section 4), or 0. */
static inline size_t hl_utf8_length(const char *text, size_t left) {
    const uint8_t *byte = (const uint8_t *)text;
    if (left == 0)
        return 0;
    if (byte[0] < 0x80)
        return 1;
    size_t length = byte[0] < 0xe0 ? 2 : byte[0] < 0xf0 ? 3 : 4;
    if (byte[0] < 0xc2 || byte[0] > 0xf4 || length > left)
        return 0;
    /* The second byte's range rules out overlong forms, surrogates and what lies above U+10FFFF. */
    uint8_t low = byte[0] == 0xe0 ? 0xa0 : byte[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = byte[0] == 0xed ? 0x9f : byte[0] == 0xf4 ? 0x8f : 0xbf;
    if (byte[1] < low || byte[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((byte[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* ---- writer ---------------------------------------------------------------------------------- */
struct hl_json_writer {
    char *text;
    size_t size, room;
    int comma;  /* the next value or key needs one before it */
    int failed; /* something did not fit */
};

static inline void hl_json_start(struct hl_json_writer *writer, char *buffer, size_t room) {
    *writer = (struct hl_json_writer){.text = buffer, .room = room};
}

/* The size of the text, or 0 if it did not fit. */
static inline size_t hl_json_finish(const struct hl_json_writer *writer) {
    return writer->failed ? 0 : writer->size;
}

static inline void hl_json_put(struct hl_json_writer *writer, const char *text, size_t size) {
    if (writer->failed || size > writer->room - writer->size) {
        writer->failed = 1;
        return;
    }
    for (size_t i = 0; i < size; i++)
        writer->text[writer->size++] = text[i];
}

/* One value whose JSON text the caller has. */
static inline void hl_json_raw(struct hl_json_writer *writer, const char *text, size_t size) {
    if (writer->comma)
        hl_json_put(writer, ",", 1);
    hl_json_put(writer, text, size);
    writer->comma = 1;
}

/* `bracket` is '{' or '[', for hl_json_close '}' or ']'. */
static inline void hl_json_open(struct hl_json_writer *writer, char bracket) {
    hl_json_raw(writer, &bracket, 1);
    writer->comma = 0;
}

static inline void hl_json_close(struct hl_json_writer *writer, char bracket) {
    hl_json_put(writer, &bracket, 1);
    writer->comma = 1;
}

static inline void hl_json_put_hex(struct hl_json_writer *writer, uint8_t byte) {
    const char *digits = "0123456789abcdef";
    const char text[2] = {digits[byte >> 4], digits[byte & 15]};
    hl_json_put(writer, text, 2);
}

/* Puts the first character of `text` and returns its bytes. */
static inline size_t hl_json_put_character(struct hl_json_writer *writer, const char *text,
                                           size_t left) {
    uint8_t byte = (uint8_t)*text;
    size_t length = hl_utf8_length(text, left);
    if (length == 0) {
        hl_json_put(writer, "\\u0000", 6);
        hl_json_put_hex(writer, byte);
        return 1;
    }
    if (byte < 0x20) {
        hl_json_put(writer, "\\u00", 4);
        hl_json_put_hex(writer, byte);
        return 1;
    }
    if (byte == '"' || byte == '\\')
        hl_json_put(writer, "\\", 1);
    hl_json_put(writer, text, length);
    return length;
}

static inline void hl_json_string(struct hl_json_writer *writer, const char *text, size_t size) {
    hl_json_raw(writer, "\"", 1);
    for (size_t i = 0; i < size && !writer->failed;)
        i += hl_json_put_character(writer, text + i, size - i);
    hl_json_put(writer, "\"", 1);
}

static inline void hl_json_text(struct hl_json_writer *writer, const char *text) {
    size_t size = 0;
    while (text[size])
        size++;
    hl_json_string(writer, text, size);
}

static inline void hl_json_key(struct hl_json_writer *writer, const char *key) {
    hl_json_text(writer, key);
    hl_json_put(writer, ":", 1);
    writer->comma = 0;
}

static inline void hl_json_uint(struct hl_json_writer *writer, uint64_t value) {
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    hl_json_raw(writer, digits + at, sizeof digits - at);
}

static inline void hl_json_int(struct hl_json_writer *writer, int64_t value) {
    if (value >= 0) {
        hl_json_uint(writer, (uint64_t)value);
        return;
    }
    hl_json_raw(writer, "-", 1);
    writer->comma = 0;
    hl_json_uint(writer, 0 - (uint64_t)value);
}

static inline void hl_json_bool(struct hl_json_writer *writer, int value) {
    hl_json_raw(writer, value ? "true" : "false", value ? 4 : 5);
}

static inline void hl_json_null(struct hl_json_writer *writer) { hl_json_raw(writer, "null", 4); }

/* ---- scanning: each takes a place and the end, returns the place behind or NULL -------------- */
static inline const char *hl_json_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

static inline int hl_json_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : -1; }

static inline int hl_json_hex(char c) {
    char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : hl_json_digit(c);
}

/* The four hex digits at `at`, or -1. */
static inline int32_t hl_json_unit(const char *at, const char *end) {
    int32_t unit = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        if (hl_json_hex(at[i]) < 0)
            return -1;
        unit = unit << 4 | hl_json_hex(at[i]);
    }
    return unit;
}

/* Behind a backslash: decodes one escape. A lone surrogate is not text and fails. */
static inline const char *hl_json_escape(const char *at, const char *end, uint32_t *code) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (at == end)
        return NULL;
    for (int i = 0; i < 8; i++)
        if (*at == names[i]) {
            *code = (uint8_t)values[i];
            return at + 1;
        }
    int32_t unit = *at == 'u' ? hl_json_unit(at + 1, end) : -1;
    if (unit < 0 || (unit >= 0xdc00 && unit < 0xe000))
        return NULL;
    *code = (uint32_t)unit;
    if (unit < 0xd800 || unit >= 0xe000)
        return at + 5;
    if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
        return NULL;
    int32_t second = hl_json_unit(at + 7, end);
    if (second < 0xdc00 || second >= 0xe000)
        return NULL;
    *code = 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(second - 0xdc00);
    return at + 11;
}

/* Inside a string: decodes one character into at most four bytes of UTF-8. */
static inline const char *hl_json_character(const char *at, const char *end, char to[4],
                                            size_t *size) {
    uint32_t code = 0;
    if (*at != '\\') {
        *size = (uint8_t)*at < 0x20 ? 0 : hl_utf8_length(at, (size_t)(end - at));
        for (size_t i = 0; i < *size; i++)
            to[i] = at[i];
        return *size ? at + *size : NULL;
    }
    at = hl_json_escape(at + 1, end, &code);
    *size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (*size == 1) {
        to[0] = (char)code;
        return at;
    }
    for (size_t i = *size - 1; i > 0; i--, code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)((0xf00 >> *size) | code);
    return at;
}

static inline const char *hl_json_skip_string(const char *at, const char *end) {
    char bytes[4];
    size_t size;
    if (at == end || *at++ != '"')
        return NULL;
    while (at && at < end && *at != '"')
        at = hl_json_character(at, end, bytes, &size);
    return at && at < end ? at + 1 : NULL;
}

static inline const char *hl_json_skip_digits(const char *at, const char *end) {
    const char *first = at;
    while (at < end && hl_json_digit(*at) >= 0)
        at++;
    return at == first ? NULL : at;
}

static inline const char *hl_json_skip_number(const char *at, const char *end) {
    at += at < end && *at == '-';
    int zero = at < end && *at == '0';
    at = zero ? at + 1 : hl_json_skip_digits(at, end);
    if (at && at < end && *at == '.')
        at = hl_json_skip_digits(at + 1, end);
    if (at && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        at = hl_json_skip_digits(at, end);
    }
    return at;
}

static inline const char *hl_json_skip_word(const char *at, const char *end, const char *word) {
    for (; *word; word++, at++)
        if (at == end || *at != *word)
            return NULL;
    return at;
}

static inline const char *hl_json_skip_scalar(const char *at, const char *end) {
    if (at == end)
        return NULL;
    switch (*at) {
    case '"': return hl_json_skip_string(at, end);
    case 't': return hl_json_skip_word(at, end, "true");
    case 'f': return hl_json_skip_word(at, end, "false");
    case 'n': return hl_json_skip_word(at, end, "null");
    default: return hl_json_skip_number(at, end);
    }
}

/* A key and its colon, up to the value. */
static inline const char *hl_json_skip_key(const char *at, const char *end) {
    at = hl_json_skip_string(hl_json_space(at, end), end);
    at = at ? hl_json_space(at, end) : NULL;
    return at && at < end && *at == ':' ? hl_json_space(at + 1, end) : NULL;
}

/* One value. The open brackets are a stack of bits in `objects`: 1 for '{', 0 for '['. */
static inline const char *hl_json_skip(const char *at, const char *end) {
    uint64_t objects = 0;
    int depth = 0;
    for (;;) {
        if (at < end && (*at == '{' || *at == '[')) {
            if (depth++ == HL_JSON_DEPTH)
                return NULL;
            objects = objects << 1 | (*at == '{');
            at = hl_json_space(at + 1, end);
            if (at == end || *at != (objects & 1 ? '}' : ']')) {
                at = objects & 1 ? hl_json_skip_key(at, end) : at;
                if (!at)
                    return NULL;
                continue;
            }
        } else {
            at = hl_json_skip_scalar(at, end);
            at = at && depth ? hl_json_space(at, end) : at;
        }
        while (at && depth && at < end && *at == (objects & 1 ? '}' : ']')) {
            objects >>= 1;
            at = --depth ? hl_json_space(at + 1, end) : at + 1;
        }
        if (!at || depth == 0)
            return at;
        if (at == end || *at != ',')
            return NULL;
        at = hl_json_space(at + 1, end);
        at = objects & 1 ? hl_json_skip_key(at, end) : at;
        if (!at)
            return NULL;
    }
}

/* ---- reader ---------------------------------------------------------------------------------- */
struct hl_json_value {
    const char *text; /* its first character tells the type: { [ " t f n, or a number */
    size_t size;
};

/* Whether the text is one JSON document; then *root is it. The functions below take only values
 * that come from here. */
static inline int hl_json_parse(const char *text, size_t size, struct hl_json_value *root) {
    const char *end = text + size, *first = hl_json_space(text, end);
    const char *last = hl_json_skip(first, end);
    if (!last || hl_json_space(last, end) != end)
        return 0;
    *root = (struct hl_json_value){first, (size_t)(last - first)};
    return 1;
}

static inline char hl_json_type(struct hl_json_value value) {
    return value.size ? value.text[0] : '\0';
}

/* Walks the elements of an array: start with `at` zeroed; 1 and *value, or 0 at the end. */
static inline int hl_json_next(struct hl_json_value array, const char **at,
                               struct hl_json_value *value) {
    const char *end = array.text + array.size;
    if (hl_json_type(array) != '[')
        return 0;
    const char *first = hl_json_space(*at ? *at + (**at == ',') : array.text + 1, end);
    if (*first == ']')
        return 0;
    const char *last = hl_json_skip(first, end);
    *value = (struct hl_json_value){first, (size_t)(last - first)};
    *at = hl_json_space(last, end);
    return 1;
}

/* Whether the value is the string `text`. */
static inline int hl_json_equals(struct hl_json_value value, const char *text) {
    const char *at = value.text + 1, *end = value.text + value.size - 1;
    char bytes[4];
    size_t size;
    if (hl_json_type(value) != '"')
        return 0;
    while (at < end) {
        at = hl_json_character(at, end, bytes, &size);
        for (size_t i = 0; i < size; i++)
            if (!*text || bytes[i] != *text++)
                return 0;
    }
    return !*text;
}

/* The first member of that name: 1 and *value, or 0. */
static inline int hl_json_member(struct hl_json_value object, const char *name,
                                 struct hl_json_value *value) {
    const char *end = object.text + object.size;
    if (hl_json_type(object) != '{')
        return 0;
    for (const char *at = hl_json_space(object.text + 1, end); *at != '}';) {
        struct hl_json_value key = {at, (size_t)(hl_json_skip_string(at, end) - at)};
        const char *first = hl_json_skip_key(at, end), *last = hl_json_skip(first, end);
        *value = (struct hl_json_value){first, (size_t)(last - first)};
        if (hl_json_equals(key, name))
            return 1;
        at = hl_json_space(last, end);
        at = *at == ',' ? hl_json_space(at + 1, end) : at;
    }
    return 0;
}

/* The bytes of a string: 1 and *size, or 0 if it is no string or has more than `room` bytes. */
static inline int hl_json_get_string(struct hl_json_value value, char *to, size_t room,
                                     size_t *size) {
    const char *at = value.text + 1, *end = value.text + value.size - 1;
    char bytes[4];
    size_t length;
    if (hl_json_type(value) != '"')
        return 0;
    for (*size = 0; at < end; *size += length) {
        at = hl_json_character(at, end, bytes, &length);
        if (length > room - *size)
            return 0;
        for (size_t i = 0; i < length; i++)
            to[*size + i] = bytes[i];
    }
    return 1;
}

/* The same for a name: U+0000 and two hex digits become the byte they stand for; 0 also if the name
 * has a NUL all the same. */
static inline int hl_json_get_name(struct hl_json_value value, char *to, size_t room,
                                   size_t *size) {
    size_t used = 0, length;
    if (!hl_json_get_string(value, to, room, &length))
        return 0;
    for (size_t i = 0; i < length; i++, used++) {
        to[used] = to[i];
        if (to[i])
            continue;
        if (length - i < 3 || hl_json_hex(to[i + 1]) < 0 || hl_json_hex(to[i + 2]) < 0)
            return 0;
        to[used] = (char)(hl_json_hex(to[i + 1]) << 4 | hl_json_hex(to[i + 2]));
        if (!to[used])
            return 0;
        i += 2;
    }
    *size = used;
    return 1;
}

/* An integer without fraction or exponent: 1 and *to, or 0. */
static inline int hl_json_get_uint(struct hl_json_value value, uint64_t *to) {
    uint64_t number = 0;
    if (value.size == 0)
        return 0;
    for (size_t i = 0; i < value.size; i++) {
        int digit = hl_json_digit(value.text[i]);
        if (digit < 0 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)digit, &number))
            return 0;
    }
    *to = number;
    return 1;
}

static inline int hl_json_get_int(struct hl_json_value value, int64_t *to) {
    size_t negative = hl_json_type(value) == '-';
    struct hl_json_value digits = {value.text + negative, value.size - negative};
    uint64_t number;
    if (!hl_json_get_uint(digits, &number) || number > (uint64_t)INT64_MAX + negative)
        return 0;
    *to = negative ? (int64_t)(0 - number) : (int64_t)number;
    return 1;
}

static inline int hl_json_get_bool(struct hl_json_value value, int *to) {
    *to = hl_json_type(value) == 't';
    return *to || hl_json_type(value) == 'f';
}

#endif
