/* exec.c: starts programs: the first one from the host's request, later ones by execve. */
#include "ports.h"
#include "program.h"
#include "ranges.h"
#include "vfs.h"

#define CANNOT_START 127 /* as a shell says it */
#define SCRIPT_DEPTH 4   /* scripts whose interpreters are scripts */
#define SCRIPT_LINE 256
#define STRINGS_LIMIT 0x200000
#define MXCSR_OFFSET 24
#define MXCSR_DEFAULT 0x1f80

_Noreturn void program_enter(struct registers *registers);

/* A program to be started. */
struct start {
    struct strings strings;
    struct elf main, interpreter;
    bool has_interpreter;
};

/* ---- strings --------------------------------------------------------------------------------- */
bool strings_add(struct strings *strings, const char *text, size_t size) {
    if (strings->size + size + 1 > strings->room) {
        size_t room = 2 * (strings->size + size + 1);
        char *larger = room <= STRINGS_LIMIT ? heap_resize(strings->bytes, room) : NULL;
        if (!larger)
            return false;
        strings->bytes = larger;
        strings->room = room;
    }
    memcpy(strings->bytes + strings->size, text, size);
    strings->size += size;
    strings->bytes[strings->size++] = '\0';
    return true;
}

void strings_free(struct strings *strings) {
    heap_free(strings->bytes);
    *strings = (struct strings){0};
}

bool strings_replace_first(struct strings *strings, const char *const *with, size_t count) {
    struct strings made = {0};
    for (size_t i = 0; i < count; i++)
        if (!strings_add(&made, with[i], strlen(with[i])))
            return strings_free(&made), false;
    made.argument_count = count + (strings->argument_count ? strings->argument_count - 1 : 0);
    made.environment_count = strings->environment_count;
    size_t first = strings->argument_count ? strlen(strings->bytes) + 1 : 0;
    for (size_t at = first; at < strings->size; at += strlen(strings->bytes + at) + 1) {
        if (at == strings->arguments_size)
            made.arguments_size = made.size;
        if (!strings_add(&made, strings->bytes + at, strlen(strings->bytes + at)))
            return strings_free(&made), false;
    }
    if (!made.arguments_size)
        made.arguments_size = made.size;
    strings_free(strings);
    *strings = made;
    return true;
}

/* ---- scripts: "#!interpreter argument", execve(2) -------------------------------------------- */
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

/* Cuts the line into the interpreter and its one optional argument; the number of parts. */
static size_t cut_line(char *line, const char *parts[2]) {
    char *end = line + strlen(line), *at = line;
    while (end > line && (is_blank(end[-1]) || end[-1] == '\r'))
        *--end = '\0';
    while (is_blank(*at))
        at++;
    if (!*at)
        return 0;
    parts[0] = at;
    while (*at && !is_blank(*at))
        at++;
    if (!*at)
        return 1;
    *at++ = '\0';
    while (is_blank(*at))
        at++;
    parts[1] = at;
    return 2;
}

/* The first bytes of a file that may be executed; -EACCES for others. */
static long read_executable(const char *path, char *to, size_t size) {
    struct file *file;
    struct stat status;
    long result = file_open(path, O_RDONLY, &file);
    if (result < 0)
        return result;
    result = file_stat(file, &status);
    if (!result && ((status.st_mode & S_IFMT) != S_IFREG || !(status.st_mode & 0111)))
        result = -EACCES;
    if (!result)
        result = file_read_at(file, to, size, 0);
    file_close(file);
    return result;
}

/* If `path` is a script, puts its interpreter into `path` and the arguments; 1 if it was one. */
static long follow_script(char path[PATH_LIMIT], struct strings *strings) {
    char line[SCRIPT_LINE + 1];
    long size = read_executable(path, line, SCRIPT_LINE);
    if (size < 2 || line[0] != '#' || line[1] != '!')
        return size < 0 ? size : 0;
    line[size] = '\0';
    char *end = strchr(line, '\n');
    if (end)
        *end = '\0';
    const char *with[3];
    size_t count = cut_line(line + 2, with);
    if (count == 0)
        return -ENOEXEC;
    with[count] = path;
    if (!strings_replace_first(strings, with, count + 1))
        return -ENOMEM;
    memcpy(path, with[0], strlen(with[0]) + 1);
    return 1;
}

/* ---- starting -------------------------------------------------------------------------------- */
/* Opens and checks everything that can fail before the old program is gone. */
static long prepare(struct start *start, char path[PATH_LIMIT]) {
    char interpreter[PATH_LIMIT];
    long state = 1;
    for (int depth = 0; state == 1; depth++) {
        if (depth == SCRIPT_DEPTH)
            return -ELOOP;
        state = follow_script(path, &start->strings);
    }
    long error = state < 0 ? state : elf_open(path, &start->main);
    if (error)
        return error;
    error = elf_interpreter(&start->main, interpreter);
    start->has_interpreter = interpreter[0];
    if (!error && start->has_interpreter)
        error = elf_open(interpreter, &start->interpreter);
    if (error)
        elf_close(&start->main);
    return error;
}

static void reset_vectors(void) {
    memset(current->vectors, 0, vectors_size);
    *(uint32_t *)((uint8_t *)current->vectors + MXCSR_OFFSET) = MXCSR_DEFAULT;
    vectors_restore(current->vectors);
}

/* Maps the program and sets the current task's registers to its first instruction. */
static long load(struct start *start) {
    struct elf *interpreter = start->has_interpreter ? &start->interpreter : NULL;
    long error = elf_map(&start->main, ranges_bottom);
    if (error)
        return error;
    memory_set_break(start->main.end);
    if (interpreter)
        error = elf_map(interpreter, 0);
    if (error)
        return error;
    int64_t stack =
        stack_build(&start->strings, file_path(start->main.file), &start->main, interpreter);
    if (stack < 0)
        return stack;
    *current->registers =
        (struct registers){.rip = interpreter ? interpreter->entry : start->main.entry,
                           .rsp = (uint64_t)stack,
                           .cs = HL_SELECTOR_USER_CODE,
                           .ss = HL_SELECTOR_USER_DATA,
                           .rflags = HL_RFLAGS};
    reset_vectors();
    signals_exec();
    return 0;
}

static void release(struct start *start) {
    elf_close(&start->main);
    if (start->has_interpreter)
        elf_close(&start->interpreter);
    strings_free(&start->strings);
    heap_free(start);
}

static const char *reason(long error) {
    switch (error) {
    case -ENOENT: return "it or its interpreter is not in the image";
    case -ENOEXEC: return "not a program for this machine";
    case -EACCES: return "not an executable file";
    case -ENOMEM: return "it does not fit into memory";
    case -E2BIG: return "too many arguments";
    case -ELOOP: return "scripts or links lead in a circle";
    case -ENAMETOOLONG: return "a name is too long";
    case -EINVAL: return "the request is not understood";
    }
    return "it cannot be read";
}

static _Noreturn void cannot_start(const char *path, long error) {
    const char *const parts[] = {"cannot start ", path, ": ", reason(error), "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        console_message(parts[i]);
    guest_exit(CANNOT_START);
}

/* ---- the host's request ---------------------------------------------------------------------- */
static bool add_value(struct strings *strings, struct hl_json_value value) {
    char *bytes = heap_alloc(value.size + 1);
    size_t size;
    bool added = bytes && hl_json_get_name(value, bytes, value.size, &size) &&
                 strings_add(strings, bytes, size);
    heap_free(bytes);
    return added;
}

static bool add_list(struct strings *strings, struct hl_json_value list, size_t *count) {
    struct hl_json_value value;
    for (const char *at = NULL; hl_json_next(list, &at, &value); ++*count)
        if (!add_value(strings, value))
            return false;
    return true;
}

static bool parse_request(const char *request, size_t size, struct strings *strings,
                          char directory[PATH_LIMIT]) {
    struct hl_json_value root, method, params, arguments, environment, place;
    size_t length;
    if (!hl_json_parse(request, size, &root) || !hl_json_member(root, "method", &method) ||
        !hl_json_equals(method, "exec") || !hl_json_member(root, "params", &params) ||
        !hl_json_member(params, "argv", &arguments) ||
        !hl_json_member(params, "env", &environment) || !hl_json_member(params, "cwd", &place) ||
        !hl_json_get_name(place, directory, PATH_LIMIT - 1, &length))
        return false;
    directory[length] = '\0';
    if (!add_list(strings, arguments, &strings->argument_count) || !strings->argument_count)
        return false;
    strings->arguments_size = strings->size;
    return add_list(strings, environment, &strings->environment_count);
}

/* glibc reserves 64 MiB of addresses for each arena, that is of memory here; one processor needs no
 * second arena. */
static bool limit_arenas(struct strings *strings) {
    static const char setting[] = "MALLOC_ARENA_MAX=1";
    size_t name = strchr(setting, '=') + 1 - setting;
    for (size_t at = strings->arguments_size; at < strings->size;
         at += strlen(strings->bytes + at) + 1)
        if (strncmp(strings->bytes + at, setting, name) == 0)
            return true;
    strings->environment_count++;
    return strings_add(strings, setting, sizeof setting - 1);
}

void exec_first(const char *request, size_t size) {
    static char path[PATH_LIMIT] = "the program", directory[PATH_LIMIT];
    struct start *start = heap_alloc(sizeof *start);
    if (!start)
        cannot_start(path, -ENOMEM);
    if (!parse_request(request, size, &start->strings, directory) || !limit_arenas(&start->strings))
        cannot_start(path, -EINVAL);
    size_t length = strlen(start->strings.bytes);
    memcpy(path, start->strings.bytes, length < PATH_LIMIT ? length + 1 : 0);
    long error = length < PATH_LIMIT ? files_chdir(directory) : -ENAMETOOLONG;
    if (!error)
        error = prepare(start, path);
    if (!error)
        error = load(start);
    if (error)
        cannot_start(path, error);
    release(start);
    program_enter(current->registers);
}

/* ---- execve ---------------------------------------------------------------------------------- */
static long add_user_list(struct strings *strings, const uint64_t *list, size_t *count) {
    for (; list; list++, ++*count) {
        if (!user_range_ok(list, sizeof *list))
            return -EFAULT;
        if (!*list)
            return 0;
        const char *from = (const char *)*list;
        size_t size = 0;
        while (user_range_ok(from + size, 1) && from[size])
            size++;
        if (!user_range_ok(from + size, 1))
            return -EFAULT;
        if (!strings_add(strings, from, size))
            return -E2BIG;
    }
    return 0;
}

static long take_strings(struct strings *strings, const struct syscall_arguments *arguments) {
    const uint64_t *list = (const uint64_t *)arguments->a[1];
    const uint64_t *environment = (const uint64_t *)arguments->a[2];
    long error = add_user_list(strings, list, &strings->argument_count);
    strings->arguments_size = strings->size;
    return error ? error : add_user_list(strings, environment, &strings->environment_count);
}

long sys_execve(const struct syscall_arguments *arguments) {
    static char path[PATH_LIMIT];
    long error = user_path(path, (const char *)arguments->a[0]);
    struct start *start = error ? NULL : heap_alloc(sizeof *start);
    if (!start)
        return error ? error : -ENOMEM;
    error = take_strings(&start->strings, arguments);
    if (!error)
        error = prepare(start, path);
    if (error) {
        strings_free(&start->strings);
        heap_free(start);
        return error;
    }
    /* Nothing to go back to from here on. */
    tasks_end_others();
    files_exec();
    memory_exec();
    error = load(start);
    if (error)
        cannot_start(path, error);
    release(start);
    set_fs_base(0);
    current->registers_changed = true;
    return 0;
}
