/* archive.h: reads a ZIP archive that lies in memory, member by member. */
#ifndef LIBOS_ARCHIVE_H
#define LIBOS_ARCHIVE_H
#include <stddef.h>
#include <stdint.h>

struct archive {
    const uint8_t *bytes;
    uint64_t size;
    uint64_t directory_end; /* of the central directory */
    uint64_t position;      /* of the next central header */
    uint64_t left;          /* members not yet given out */
};

struct archive_member {
    const char *name; /* inside the archive, not terminated */
    uint16_t name_size;
    uint16_t mode;
    uint64_t header; /* position of the local header */
    uint64_t size;
    int64_t time; /* of the last change, seconds since 1970 */
};

/* NULL, or what is wrong with the archive. */
const char *archive_open(struct archive *archive, const uint8_t *bytes, uint64_t size);
/* The next member while archive->left is not 0. NULL, or what is wrong with it. */
const char *archive_next(struct archive *archive, struct archive_member *member);
/* Where the data of a member begins, after a look at its local header. NULL, or what is wrong. */
const char *archive_data(const struct archive *archive, uint64_t header, uint64_t size,
                         uint64_t *offset);

#endif
