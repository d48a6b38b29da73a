/* native.c: the file systems of the library OS as a program of the host, for tests under sanitizers.
 *
 * Reads commands from the standard input, a line each, and answers each with a line:
 *   image SIZE         then SIZE bytes: an archive; "bad <why>", or "good" and a line per entry;
 *                      at last "end <exit status>"
 *   NAME ARGUMENT...   a system call; its result, and what it gave
 * Stands in for the other half of the library OS: memory from malloc, nobody ever waits.
 */
#include "vfs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_ROOM 65536
#define WORDS 6

/* ---- the other half -------------------------------------------------------------------------- */
void *heap_alloc(size_t size) { return calloc(1, size ? size : 1); }
void *heap_resize(void *block, size_t size) { return realloc(block, size); }
void heap_free(void *block) { free(block); }
int user_range_ok(const void *address, size_t size) { return address || size == 0; }

long user_path(char *to, const char *from) {
    size_t size = strlen(from) + 1;
    if (size > PATH_LIMIT)
        return -ENAMETOOLONG;
    memcpy(to, from, size);
    return 0;
}

int64_t clock_realtime_ns(void) { return 1700000000 * NANOSECONDS; }
void hostfs_refresh(void) {}
void epoll_forget(struct file *file) { (void)file; }
long socket_vector(struct file *file, bool writing, const struct iovec *parts, size_t count) {
    (void)file, (void)writing, (void)parts, (void)count;
    abort(); /* there are no sockets */
}
void console_message(const char *text) { fputs(text, stdout); }
void guest_exit(int status) {
    fflush(stdout);
    _exit(status);
}

int64_t time_from_user(const void *time) {
    (void)time;
    abort();
}

/* ---- archives -------------------------------------------------------------------------------- */
static void show(struct node *node, const char *path);

struct show_sink {
    struct list_sink sink;
    struct node *directory;
    const char *path;
};

static bool show_entry(struct list_sink *base, const char *name, size_t size, uint64_t inode,
                       uint32_t type, uint64_t next) {
    struct show_sink *sink = (struct show_sink *)base;
    struct node *child = NULL;
    char path[2 * LINE_ROOM];
    (void)inode, (void)next;
    snprintf(path, sizeof path, "%s/%.*s", sink->path, (int)size, name);
    if (sink->directory->operations->lookup(sink->directory, name, size, &child) != 0)
        abort();
    if ((type & S_IFMT) != child->type)
        abort();
    show(child, path);
    node_release(child);
    return true;
}

static uint32_t sum_of(const uint8_t *bytes, long size) {
    uint32_t sum = 0;
    for (long i = 0; i < size; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

static void show_bytes(struct node *node, struct file *file, const struct stat *status) {
    uint8_t *bytes = malloc(status->st_size + 1);
    long size = file ? file_read_at(file, bytes, status->st_size + 1, 0)
                     : node->operations->read_link(node, (char *)bytes, status->st_size);
    if (size != (long)status->st_size)
        abort();
    const uint8_t *mapped = file ? file_mapped(file, 0, size) : NULL;
    if (mapped && memcmp(mapped, bytes, size) != 0)
        abort();
    printf(" %u", sum_of(bytes, size));
    free(bytes);
}

static void show(struct node *node, const char *path) {
    struct stat status;
    struct file *file = NULL;
    if (node_stat(node, false, &status) != 0)
        abort();
    if (!node_is(node, S_IFLNK) && file_of_node(node, path, O_RDONLY, 0, &file) != 0)
        abort();
    printf("%s %o %ld", path[0] ? path : "/", status.st_mode, (long)status.st_size);
    if (!node_is(node, S_IFDIR))
        show_bytes(node, file, &status);
    putchar('\n');
    if (node_is(node, S_IFDIR)) {
        struct show_sink sink = {{show_entry}, node, path};
        file->operations->list(file, 0, &sink.sink);
    }
    if (file)
        file_close(file);
}

static void load_and_show(const uint8_t *bytes, size_t size) {
    struct node *root = NULL;
    const char *wrong = image_load(bytes, size, &root);
    if (wrong) {
        printf("bad %s\n", wrong);
        return;
    }
    puts("good");
    show(root, "");
}

/* In a process of its own: there is one image in the life of a guest. */
static void run_image(size_t size) {
    uint8_t *bytes = malloc(size); /* exactly: a byte too far is found */
    int status;
    if (fread(bytes, 1, size, stdin) != size)
        exit(2);
    pid_t child = fork();
    if (child == 0) {
        load_and_show(bytes, size);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        exit(2);
    printf("\nend %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    free(bytes);
}

/* ---- system calls ---------------------------------------------------------------------------- */
static syscall_function *const calls[] = {
#define CALL(name) sys_##name,
#include "native_calls.def"
#undef CALL
};
static const char *const call_names[] = {
#define CALL(name) #name,
#include "native_calls.def"
#undef CALL
};

/* Numbers are numbers, "@" is the buffer, everything else is text; "-" is the empty text. */
static uint64_t value_of(const char *word, char *buffer) {
    char *end;
    if (strcmp(word, "@") == 0)
        return (uintptr_t)buffer;
    if (strcmp(word, "-") == 0)
        return (uintptr_t)"";
    long number = strtol(word, &end, 0);
    return *end ? (uintptr_t)word : (uint64_t)number;
}

static void print_hex(const char *bytes, long size) {
    putchar(' ');
    for (long i = 0; i < size; i++)
        printf("%02x", (uint8_t)bytes[i]);
}

static void run_call(char *words[], size_t count) {
    static char buffer[LINE_ROOM];
    struct syscall_arguments arguments = {{0}};
    size_t call = 0;
    while (call < sizeof calls / sizeof *calls && strcmp(call_names[call], words[0]) != 0)
        call++;
    if (call == sizeof calls / sizeof *calls)
        exit(3);
    memset(buffer, 0, sizeof buffer);
    bool gives = false;
    for (size_t i = 1; i < count; i++) {
        gives = gives || strcmp(words[i], "@") == 0;
        arguments.a[i - 1] = value_of(words[i], buffer);
    }
    long result = calls[call](&arguments);
    printf("%ld", result);
    if (gives && result >= 0)
        print_hex(buffer, strstr(words[0], "stat") ? (long)sizeof(struct stat) : result);
    putchar('\n');
}

static size_t split(char *line, char *words[]) {
    size_t count = 0;
    for (char *word = strtok(line, " \n"); word && count < WORDS + 1; word = strtok(NULL, " \n"))
        words[count++] = word;
    return count;
}

int main(void) {
    static char line[LINE_ROOM];
    if (mount_add("", tmpfs_new(0755), 0) != 0)
        return 1;
    struct node *root = NULL;
    if (node_at("", 0, &root) != 0 || directory_enter(root, "") != 0)
        return 1;
    node_release(root);
    while (fgets(line, sizeof line, stdin)) {
        char *words[WORDS + 1];
        size_t count = split(line, words);
        if (count == 2 && strcmp(words[0], "image") == 0)
            run_image(strtoul(words[1], NULL, 0));
        else if (count)
            run_call(words, count);
        fflush(stdout);
    }
    return 0;
}
