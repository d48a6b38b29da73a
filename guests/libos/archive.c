/* archive.c: reads a ZIP archive as PKWARE's APPNOTE.TXT 6.3.10 describes it, members stored only.
 *
 * Section numbers in the comments are APPNOTE's. Every number comes from the file and is checked
 * before it is used. Local headers are read one at a time, on demand: each lies on a page of its own.
 */
#include "archive.h"
#include <stdbool.h>
#include "libos.h"

#define MARK_END 0x06054b50           /* 4.3.16 */
#define MARK_END64 0x06064b50         /* 4.3.14 */
#define MARK_END64_LOCATOR 0x07064b50 /* 4.3.15 */
#define MARK_CENTRAL 0x02014b50       /* 4.3.12 */
#define MARK_LOCAL 0x04034b50         /* 4.3.7 */
#define END_SIZE 22
#define END64_SIZE 56
#define END64_LOCATOR_SIZE 20
#define CENTRAL_SIZE 46
#define LOCAL_SIZE 30
#define FLAG_ENCRYPTED 1   /* 4.4.4 */
#define METHOD_STORED 0    /* 4.4.5 */
#define MADE_BY_UNIX 3     /* 4.4.2 */
#define EXTRA_ZIP64 0x0001 /* 4.5.3 */
#define EXTRA_TIME 0x5455  /* Info-ZIP's extended timestamp: flags, then the change time */
#define ESCAPE16 0xffffu   /* 4.4.1.4: the value is in the ZIP64 structure */
#define ESCAPE32 0xffffffffu

static uint64_t get(const uint8_t *at, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static uint16_t get16(const uint8_t *at) { return get(at, 2); }
static uint32_t get32(const uint8_t *at) { return get(at, 4); }
static uint64_t get64(const uint8_t *at) { return get(at, 8); }

static bool fits(const struct archive *archive, uint64_t offset, uint64_t size) {
    return offset <= archive->size && size <= archive->size - offset;
}

/* ---- the end of the archive ------------------------------------------------------------------ */
static const uint8_t *find_end(const struct archive *archive) {
    for (uint64_t comment = 0; comment <= 0xffff && fits(archive, 0, END_SIZE + comment);
         comment++) {
        const uint8_t *end = archive->bytes + archive->size - END_SIZE - comment;
        if (get32(end) == MARK_END && get16(end + 20) == comment)
            return end;
    }
    return NULL;
}

static const char *read_end64(struct archive *archive, const uint8_t *end, uint64_t *offset,
                              uint64_t *size) {
    uint64_t before = end - archive->bytes;
    if (before < END64_LOCATOR_SIZE || get32(end - END64_LOCATOR_SIZE) != MARK_END64_LOCATOR)
        return "no ZIP64 locator";
    uint64_t at = get64(end - END64_LOCATOR_SIZE + 8);
    if (!fits(archive, at, END64_SIZE) || get32(archive->bytes + at) != MARK_END64)
        return "no ZIP64 end record";
    const uint8_t *end64 = archive->bytes + at;
    if (get32(end64 + 16) || get32(end64 + 20) || get64(end64 + 24) != get64(end64 + 32))
        return "more than one volume";
    archive->left = get64(end64 + 32);
    *size = get64(end64 + 40);
    *offset = get64(end64 + 48);
    return NULL;
}

const char *archive_open(struct archive *archive, const uint8_t *bytes, uint64_t size) {
    *archive = (struct archive){.bytes = bytes, .size = size};
    const uint8_t *end = find_end(archive);
    if (!end)
        return "no end record: not a ZIP archive, or cut short";
    uint64_t directory_size = get32(end + 12), offset = get32(end + 16);
    archive->left = get16(end + 10);
    if (archive->left == ESCAPE16 || directory_size == ESCAPE32 || offset == ESCAPE32) {
        const char *wrong = read_end64(archive, end, &offset, &directory_size);
        if (wrong)
            return wrong;
    } else if (get16(end + 4) || get16(end + 6) || get16(end + 8) != get16(end + 10)) {
        return "more than one volume";
    }
    if (!fits(archive, offset, directory_size))
        return "the central directory lies outside";
    if (archive->left > directory_size / CENTRAL_SIZE)
        return "more members than the central directory holds";
    archive->position = offset;
    archive->directory_end = offset + directory_size;
    return NULL;
}

/* ---- members --------------------------------------------------------------------------------- */
/* 4.4.6: MS-DOS date and time, taken as UTC. The days follow from the proleptic Gregorian calendar
 * with the year beginning in March. */
static int64_t dos_time(uint16_t date, uint16_t time) {
    int64_t year = 1980 + (date >> 9), month = date >> 5 & 15, day = date & 31;
    if (month < 1)
        month = 1;
    year -= month < 3;
    int64_t days = 365 * year + year / 4 - year / 100 + year / 400 +
                   (153 * ((month + 9) % 12) + 2) / 5 + day - 1 - 719468;
    return days * 86400 + (time >> 11) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2;
}

/* The fields of one extra block; `stored` is the size in the central directory's compressed field. */
static const char *read_zip64(const uint8_t *field, uint16_t size, struct archive_member *member,
                              uint64_t *stored) {
    uint64_t *values[] = {&member->size, stored, &member->header};
    for (unsigned i = 0; i < 3; i++) {
        if (*values[i] != ESCAPE32)
            continue;
        if (size < 8)
            return "a ZIP64 field that is too short";
        *values[i] = get64(field);
        field += 8;
        size -= 8;
    }
    return NULL;
}

static const char *read_extra(const uint8_t *extra, uint16_t left, struct archive_member *member,
                              uint64_t *stored) {
    while (left >= 4) {
        uint16_t kind = get16(extra), size = get16(extra + 2);
        if (size > left - 4)
            return "an extra field that is too long";
        const char *wrong = NULL;
        if (kind == EXTRA_ZIP64)
            wrong = read_zip64(extra + 4, size, member, stored);
        else if (kind == EXTRA_TIME && size >= 5 && (extra[4] & 1))
            member->time = (int32_t)get32(extra + 5);
        if (wrong)
            return wrong;
        extra += 4 + size;
        left -= 4 + size;
    }
    return NULL;
}

const char *archive_next(struct archive *archive, struct archive_member *member) {
    const uint8_t *header = archive->bytes + archive->position;
    uint64_t room = archive->directory_end - archive->position;
    if (room < CENTRAL_SIZE || get32(header) != MARK_CENTRAL)
        return "the central directory is damaged";
    uint16_t name_size = get16(header + 28), extra_size = get16(header + 30);
    uint64_t whole = (uint64_t)CENTRAL_SIZE + name_size + extra_size + get16(header + 32);
    if (room < whole)
        return "the central directory is cut short";
    if (get16(header + 10) != METHOD_STORED || (get16(header + 8) & FLAG_ENCRYPTED))
        return "a member that is compressed or encrypted";
    uint64_t stored = get32(header + 20);
    *member = (struct archive_member){
        .name = (const char *)header + CENTRAL_SIZE,
        .name_size = name_size,
        .mode = header[5] == MADE_BY_UNIX ? get16(header + 40) : 0,
        .header = get32(header + 42),
        .size = get32(header + 24),
        .time = dos_time(get16(header + 14), get16(header + 12)),
    };
    const char *wrong = read_extra(header + CENTRAL_SIZE + name_size, extra_size, member, &stored);
    if (wrong)
        return wrong;
    if (stored != member->size)
        return "a stored member with two sizes";
    if (!fits(archive, member->header, LOCAL_SIZE + (uint64_t)name_size) ||
        !fits(archive, member->header + LOCAL_SIZE + name_size, member->size))
        return "a member that lies outside";
    archive->position += whole;
    archive->left--;
    return NULL;
}

const char *archive_data(const struct archive *archive, uint64_t header, uint64_t size,
                         uint64_t *offset) {
    const uint8_t *local = archive->bytes + header;
    if (get32(local) != MARK_LOCAL)
        return "a member without local header";
    *offset = header + LOCAL_SIZE + get16(local + 26) + get16(local + 28);
    if (!fits(archive, *offset, size))
        return "a member that lies outside";
    return NULL;
}
