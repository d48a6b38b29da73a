/* driver.c: speaks the C interface for the tests: one command a line, one result a line.
 *
 *   driver LIMIT{8} [GUEST HOST PERMISSIONS EPHEMERAL ...]
 *
 * The limits are in the order of hl_fs_limits, -1 for none. A command is a name and arguments, each a
 * number or the hex digits of bytes behind an 'x'; a result is the code of the function and, where it
 * has one, its output in hex. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hl_fs.h"

#define ROOM (1 << 20)
#define LIMITS 8
#define BYTES(i) arguments[i].data, arguments[i].size
#define NUMBER(i) arguments[i].number

struct argument {
    uint8_t *data; /* in the line itself: two digits become one byte */
    size_t size;
    int64_t number;
};

static struct argument arguments[4];
static uint8_t output[ROOM];

static uint8_t digit(char c) { return (uint8_t)(c >= 'a' ? c - 'a' + 10 : c - '0'); }

static void argument_read(struct argument *argument, char *text) {
    *argument = (struct argument){.data = (uint8_t *)text};
    if (text[0] != 'x') {
        argument->number = strtoll(text, NULL, 10);
        return;
    }
    for (const char *at = text + 1; at[0] && at[1]; at += 2)
        argument->data[argument->size++] = (uint8_t)(digit(at[0]) << 4 | digit(at[1]));
}

/* The commands whose result is a code alone. */
static int64_t run_plain(const hl_fs *fs, const char *name) {
    if (!strcmp(name, "open"))
        return hl_fs_open(fs, BYTES(0), (uint32_t)NUMBER(1), (uint32_t)NUMBER(2), NULL);
    if (!strcmp(name, "close"))
        return hl_fs_close(fs, (uint64_t)NUMBER(0));
    if (!strcmp(name, "write"))
        return hl_fs_write(fs, (uint64_t)NUMBER(0), BYTES(1), NUMBER(2));
    if (!strcmp(name, "seek"))
        return hl_fs_seek(fs, (uint64_t)NUMBER(0), NUMBER(1), (uint32_t)NUMBER(2));
    if (!strcmp(name, "truncate"))
        return hl_fs_truncate(fs, (uint64_t)NUMBER(0), (uint64_t)NUMBER(1));
    if (!strcmp(name, "mkdir"))
        return hl_fs_mkdir(fs, BYTES(0), (uint32_t)NUMBER(1));
    if (!strcmp(name, "rmdir"))
        return hl_fs_rmdir(fs, BYTES(0));
    if (!strcmp(name, "unlink"))
        return hl_fs_unlink(fs, BYTES(0));
    if (!strcmp(name, "rename"))
        return hl_fs_rename(fs, BYTES(0), BYTES(1));
    if (!strcmp(name, "link"))
        return hl_fs_link(fs, BYTES(0), BYTES(1));
    if (!strcmp(name, "symlink"))
        return hl_fs_symlink(fs, BYTES(0), BYTES(1));
    if (!strcmp(name, "chmod"))
        return hl_fs_chmod(fs, BYTES(0), (uint32_t)NUMBER(1));
    if (!strcmp(name, "utimes"))
        return hl_fs_utimes(fs, BYTES(0), NUMBER(1), NUMBER(2), 1);
    if (!strcmp(name, "restore"))
        return hl_fs_restore(fs, NULL);
    return -((int64_t)HL_FS_INVALID << 16);
}

/* Runs one command; *size is how much of `output` it has filled. */
static int64_t run(const hl_fs *fs, const char *name, size_t *size) {
    hl_fs_status *status = (hl_fs_status *)output;
    int64_t code;
    *size = 0;
    if (!strcmp(name, "read")) {
        size_t wanted = NUMBER(1) < ROOM ? (size_t)NUMBER(1) : ROOM;
        code = hl_fs_read(fs, (uint64_t)NUMBER(0), output, wanted, NUMBER(2));
        *size = code > 0 ? (size_t)code : 0;
    } else if (!strcmp(name, "readlink")) {
        code = hl_fs_readlink(fs, BYTES(0), output, ROOM);
        *size = code > 0 ? (size_t)code : 0;
    } else if (!strcmp(name, "stat")) {
        code = hl_fs_stat(fs, BYTES(0), (uint32_t)NUMBER(1), status);
        *size = code ? 0 : sizeof *status;
    } else if (!strcmp(name, "fstat")) {
        code = hl_fs_fstat(fs, (uint64_t)NUMBER(0), status);
        *size = code ? 0 : sizeof *status;
    } else if (!strcmp(name, "list")) {
        hl_fs_listing listing = {0};
        uint64_t cursor = (uint64_t)NUMBER(1);
        code = hl_fs_list(fs, (uint64_t)NUMBER(0), cursor, 1000, output, ROOM, &listing);
        *size = code ? 0 : listing.bytes;
    } else
        code = run_plain(fs, name);
    return code;
}

static void serve(const hl_fs *fs) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        size_t count = 0, size;
        char *name = strtok(line, " \n");
        for (char *text; count < 4 && (text = strtok(NULL, " \n"));)
            argument_read(&arguments[count++], text);
        int64_t code = run(fs, name, &size);
        printf("%lld ", (long long)code);
        for (size_t i = 0; i < size; i++)
            printf("%02x", output[i]);
        printf("\n");
        fflush(stdout);
    }
    free(line);
}

int main(int argc, char **argv) {
    hl_fs_mount mounts[8];
    hl_fs_limits limits;
    size_t count = 0, failed;
    hl_fs *fs;
    if (argc < 1 + LIMITS || hl_fs_default_limits(&limits))
        return 1;
    for (int i = 0; i < LIMITS; i++)
        ((uint64_t *)&limits)[i] = strtoull(argv[1 + i], NULL, 10); /* "-1" is UINT64_MAX */
    for (int i = 1 + LIMITS; i + 3 < argc && count < 8; i += 4)
        mounts[count++] = (hl_fs_mount){
            .guest = (const uint8_t *)argv[i],
            .guest_size = strlen(argv[i]),
            .host = (const uint8_t *)argv[i + 1],
            .host_size = strlen(argv[i + 1]),
            .permissions = (uint32_t)atoi(argv[i + 2]),
            .ephemeral = (uint32_t)atoi(argv[i + 3]),
        };
    if (hl_fs_new(&limits, mounts, count, &fs, &failed))
        return 1;
    serve(fs);
    return hl_fs_free(fs) ? 1 : 0;
}
