/* driver.c: speaks the C interface for the tests: one command a line, one result a line.
 *
 *   driver GUEST HOST PERMISSIONS [GUEST HOST PERMISSIONS ...]
 *
 * A command is a name and arguments, each a number or the hex digits of bytes behind an 'x'; a result
 * is the code of the function and, where it has one, its output in hex. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hl_fs.h"

#define ROOM (1 << 20)
#define BYTES(i) arguments[i].data, arguments[i].size
#define NUMBER(i) arguments[i].number

struct argument {
    uint8_t data[8192];
    size_t size;
    int64_t number;
};

static struct argument arguments[4];
static uint8_t output[ROOM];

static void argument_read(struct argument *argument, const char *text) {
    argument->size = 0;
    argument->number = text[0] == 'x' ? 0 : strtoll(text, NULL, 10);
    for (text++; text[-1] == 'x' || (argument->size && text[0] && text[1]); text += 2) {
        unsigned byte;
        if (sscanf(text, "%2x", &byte) != 1)
            break;
        argument->data[argument->size++] = (uint8_t)byte;
    }
}

/* Runs one command; *size is how much of `output` it has filled. */
static int64_t run(const hl_fs *fs, const char *name, size_t *size) {
    hl_fs_status *status = (hl_fs_status *)output;
    int64_t code = -((int64_t)HL_FS_INVALID << 16);
    *size = 0;
    if (!strcmp(name, "open"))
        return hl_fs_open(fs, BYTES(0), (uint32_t)NUMBER(1), (uint32_t)NUMBER(2), NULL);
    if (!strcmp(name, "close"))
        return hl_fs_close(fs, (uint64_t)NUMBER(0));
    if (!strcmp(name, "read")) {
        code = hl_fs_read(fs, (uint64_t)NUMBER(0), output, (size_t)NUMBER(1), NUMBER(2));
        *size = code > 0 ? (size_t)code : 0;
    } else if (!strcmp(name, "write"))
        code = hl_fs_write(fs, (uint64_t)NUMBER(0), BYTES(1), NUMBER(2));
    else if (!strcmp(name, "truncate"))
        code = hl_fs_truncate(fs, (uint64_t)NUMBER(0), (uint64_t)NUMBER(1));
    else if (!strcmp(name, "stat")) {
        code = hl_fs_stat(fs, BYTES(0), (uint32_t)NUMBER(1), status);
        *size = code ? 0 : sizeof *status;
    } else if (!strcmp(name, "fstat")) {
        code = hl_fs_fstat(fs, (uint64_t)NUMBER(0), status);
        *size = code ? 0 : sizeof *status;
    } else if (!strcmp(name, "list")) {
        hl_fs_listing listing = {0};
        code =
            hl_fs_list(fs, (uint64_t)NUMBER(0), (uint64_t)NUMBER(1), 1000, output, ROOM, &listing);
        *size = code ? 0 : listing.bytes;
    } else if (!strcmp(name, "mkdir"))
        code = hl_fs_mkdir(fs, BYTES(0), (uint32_t)NUMBER(1));
    else if (!strcmp(name, "rmdir"))
        code = hl_fs_rmdir(fs, BYTES(0));
    else if (!strcmp(name, "unlink"))
        code = hl_fs_unlink(fs, BYTES(0));
    else if (!strcmp(name, "rename"))
        code = hl_fs_rename(fs, BYTES(0), BYTES(1));
    else if (!strcmp(name, "link"))
        code = hl_fs_link(fs, BYTES(0), BYTES(1));
    else if (!strcmp(name, "symlink"))
        code = hl_fs_symlink(fs, BYTES(0), BYTES(1));
    else if (!strcmp(name, "readlink")) {
        code = hl_fs_readlink(fs, BYTES(0), output, ROOM);
        *size = code > 0 ? (size_t)code : 0;
    } else if (!strcmp(name, "chmod"))
        code = hl_fs_chmod(fs, BYTES(0), (uint32_t)NUMBER(1));
    else if (!strcmp(name, "utimes"))
        code = hl_fs_utimes(fs, BYTES(0), NUMBER(1), NUMBER(2), 1);
    return code;
}

static void serve(const hl_fs *fs) {
    static char line[65536];
    while (fgets(line, sizeof line, stdin)) {
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
}

int main(int argc, char **argv) {
    hl_fs_mount mounts[8];
    hl_fs_limits limits;
    size_t count = 0, failed;
    hl_fs *fs;
    for (int i = 1; i + 2 < argc && count < 8; i += 3)
        mounts[count++] = (hl_fs_mount){
            .guest = (const uint8_t *)argv[i],
            .guest_size = strlen(argv[i]),
            .host = (const uint8_t *)argv[i + 1],
            .host_size = strlen(argv[i + 1]),
            .permissions = (uint32_t)atoi(argv[i + 2]),
        };
    if (hl_fs_default_limits(&limits) || hl_fs_new(&limits, mounts, count, &fs, &failed))
        return 1;
    serve(fs);
    return hl_fs_free(fs) ? 1 : 0;
}
