/* string.c: the string functions that C code and the compiler itself call. */
#include "libos.h"

/* Below this many bytes a loop is quicker than starting a string instruction. */
#define SHORT 32

void *memcpy(void *to, const void *from, size_t size) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (size >= SHORT) {
        __asm__ volatile("rep movsb" : "+D"(out), "+S"(in), "+c"(size) : : "memory");
        return to;
    }
    for (; size >= 8; size -= 8, out += 8, in += 8)
        *(uint64_t *)out = *(const uint64_t *)in;
    for (; size; size--)
        *(volatile uint8_t *)out++ = *in++;
    return to;
}

static void copy_backwards(uint8_t *to, const uint8_t *from, size_t size) {
    for (; size >= 8; size -= 8)
        *(uint64_t *)(to + size - 8) = *(const uint64_t *)(from + size - 8);
    while (size--)
        *(volatile uint8_t *)(to + size) = from[size];
}

void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    copy_backwards(to, from, size);
    return to;
}

void *memset(void *to, int byte, size_t size) {
    void *out = to;
    __asm__ volatile("rep stosb" : "+D"(out), "+c"(size) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const uint8_t *left = a, *right = b;
    for (; size >= 8 && *(const uint64_t *)left == *(const uint64_t *)right; size -= 8)
        left += 8, right += 8;
    for (; size; size--, left++, right++)
        if (*left != *right)
            return *left - *right;
    return 0;
}

size_t strlen(const char *text) {
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}

int strcmp(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t size) {
    while (size && *a && *a == *b)
        a++, b++, size--;
    return size ? (uint8_t)*a - (uint8_t)*b : 0;
}

char *strchr(const char *text, int byte) {
    for (;; text++) {
        if (*text == (char)byte)
            return (char *)text;
        if (!*text)
            return NULL;
    }
}
