/* json_probe.c: what guests/sdk/hl_json.h makes of standard input, for test_json.py, which compares. */
#include "hl_json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 65536

static void print_hex(const char *name, const char *bytes, size_t size) {
    printf("%s ", name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", (unsigned char)bytes[i]);
    puts("");
}

static void print_string(struct hl_json_value value) {
    static char bytes[ROOM], text[8 * ROOM];
    struct hl_json_writer writer;
    size_t size;
    if (hl_json_get_name(value, bytes, sizeof bytes, &size)) {
        print_hex("name", bytes, size);
        hl_json_start(&writer, text, sizeof text);
        hl_json_open(&writer, '{');
        hl_json_key(&writer, "a");
        hl_json_string(&writer, bytes, size);
        hl_json_key(&writer, "b");
        hl_json_int(&writer, INT64_MIN);
        hl_json_close(&writer, '}');
        size_t written = hl_json_finish(&writer);
        print_hex("again", text, written);
        hl_json_start(&writer, text, written - 1);
        hl_json_raw(&writer, text, written);
        if (hl_json_finish(&writer) != 0)
            puts("overflow unnoticed");
    }
    if (hl_json_get_string(value, bytes, sizeof bytes, &size))
        print_hex("string", bytes, size);
}

/* The input is copied to a block of exactly its size, so that a sanitizer sees every byte too far. */
int main(void) {
    static char input[ROOM];
    size_t size = fread(input, 1, sizeof input, stdin);
    char *text = malloc(size ? size : 1);
    struct hl_json_value root, value;
    const char *at = NULL;
    int64_t number;
    int elements = 0;
    memcpy(text, input, size);
    int valid = hl_json_parse(text, size, &root);
    puts(valid ? "valid" : "invalid");
    if (valid && hl_json_member(root, "k\xc3\xa9\"", &value)) {
        print_string(value);
        if (hl_json_get_int(value, &number))
            printf("int %ld\n", number);
    }
    while (valid && hl_json_next(root, &at, &value))
        elements++;
    if (valid && hl_json_type(root) == '[')
        printf("elements %d\n", elements);
    free(text);
    return 0;
}
