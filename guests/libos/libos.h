/* libos.h: what the parts of the library OS offer each other.
 *
 * The library OS runs in ring 3 beside the one program it serves, on one vCPU, without preemption:
 * a task runs until it blocks, so nothing here needs a lock, and only wait_on() and task_yield() let
 * another task run. Compiled with -mgeneral-regs-only: no vector register is touched in a syscall.
 * Functions that can fail return a Linux -errno. Everything the program can see follows Linux x86-64.
 */
#ifndef LIBOS_H
#define LIBOS_H
#include <stddef.h>
#include <stdint.h>
#include "hl_abi.h"

/* ---- boot (boot.c) --------------------------------------------------------------------------- */
static inline const struct hl_boot_info *boot_info(void) {
    return (const struct hl_boot_info *)HL_BOOT_INFO_ADDRESS;
}

/* ---- kernel heap (heap.c): for the library OS itself, from RAM of its own -------------------- */
void *heap_alloc(size_t size); /* zeroed, 16-byte aligned; NULL when memory is out */
/* May move. What the caller never wrote is zero; on failure NULL, and the block is as it was. */
void *heap_resize(void *block, size_t size);
void heap_free(void *block); /* NULL allowed */

/* ---- strings (string.c): the usual functions, freestanding ----------------------------------- */
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t size);
char *strchr(const char *text, int byte);

/* ---- program memory (memory.c): what mmap and brk hand out ----------------------------------- */
/* Whether [address, address + size) is memory the program may pass to a syscall. The program could
 * only hurt itself; the check exists so that it gets EFAULT as it does on Linux. */
int user_range_ok(const void *address, size_t size);
/* Copies a NUL-terminated path; -EFAULT or -ENAMETOOLONG. `to` has PATH_LIMIT bytes. */
#define PATH_LIMIT 4096
long user_path(char *to, const char *from);
/* For statm, sysinfo and /proc/self/status. */
uint64_t memory_mapped_bytes(void);
uint64_t memory_free_bytes(void);
/* Appends one line of /proc/self/maps after another to `to`; returns bytes written. */
size_t memory_maps_text(char *to, size_t room);

/* ---- tasks (task.c): threads of the one process ---------------------------------------------- */
#define PROCESS_ID 2 /* of the one process and of its first task; its parent is 1 */
struct task;
extern struct task *current;
int task_id(const struct task *task);
int task_count(void);

/* Starts as zeroes. What holds a queue must not be freed while a task waits on it. */
struct wait_queue {
    struct wait_node *first;
};
/* Blocks the current task until wake_*, a signal for it or the deadline (CLOCK_MONOTONIC ns,
 * INT64_MAX for none). 0, -EINTR or -ETIMEDOUT. */
long wait_on(struct wait_queue *queue, int64_t deadline_ns);
/* Blocks on several queues at once (poll, select, epoll); `queues` may have NULL members. */
long wait_on_any(struct wait_queue *const *queues, size_t count, int64_t deadline_ns);
void wake_one(struct wait_queue *queue);
void wake_all(struct wait_queue *queue);
void task_yield(void);

/* ---- time (clock.c) -------------------------------------------------------------------------- */
int64_t clock_monotonic_ns(void);
int64_t clock_realtime_ns(void);

/* ---- random (random.c): ChaCha20 from boot_info()->seed, seeded anew when the epoch changes -- */
void random_bytes(void *to, size_t size);

/* ---- console and host calls (host.c) --------------------------------------------------------- */
void console_write(uint32_t stream, const void *text, size_t size);
/* Prints to the console's stderr; for messages of the library OS itself. */
void console_message(const char *text);
_Noreturn void guest_exit(int status);

/* One host call. `params` is the JSON text of the params object. On return `*reply` points into the
 * in buffer and stays valid until the next exit, that is until this task blocks, writes a lot to the
 * console or calls again: take what is needed at once. Returns 0, or -errno from the error's data
 * (-ENOSYS for method not found, -EIO where there is no errno). */
struct host_reply {
    const char *result; /* JSON text of the result object */
    size_t result_size;
    const uint8_t *attachment;
    size_t attachment_size;
};
long host_call(const char *method, const char *params, size_t params_size, const void *attachment,
               size_t attachment_size, struct host_reply *reply);
/* Where a caller may build its attachment beforehand, to spare a copy, and how much fits. */
uint8_t *host_call_attachment(size_t *room);
/* For /dev/hl-call: sends a whole request frame, gives the response frame in the in buffer, which
 * stays valid as above. Its sizes are checked: attachment_offset + attachment_size bytes are there,
 * or 16 + json_size without an attachment; host_frame_size() says how many. */
long host_call_frame(const void *request_frame, size_t size, const struct hl_frame **response);
/* For /dev/hl-serve: parks the guest with this reply (size 0: none), gives the next request frame. */
long host_serve(const void *reply_frame, size_t size, const struct hl_frame **request);
size_t host_frame_size(const struct hl_frame *frame);
/* How often the host was asked anything: while the number stays, so does what it said last. */
uint64_t host_exits(void);

/* ---- JSON (json.h in guests/sdk): a writer over a fixed buffer, a reader over text ----------- */
#include "hl_json.h"

/* ---- files (vfs.h has the rest) -------------------------------------------------------------- */
struct file;
/* Opens a path for the library OS itself (the program to load, its interpreter). */
long file_open(const char *path, int flags, struct file **file);
void file_close(struct file *file);
long file_read_at(struct file *file, void *to, size_t size, uint64_t offset);
/* The memory in which the bytes [offset, offset + size) of the file already lie, page-aligned and
 * unchanging, or NULL; image files have it. */
const void *file_mapped(struct file *file, uint64_t offset, size_t size);
uint64_t file_size(struct file *file);
/* The open file behind a descriptor, or NULL; one reference more, to be given back with file_close. */
struct file *file_of(int descriptor);
/* One reference more to an open file, to be given back with file_close; returns it. */
struct file *file_hold(struct file *file);
/* The path it was opened by, for /proc/self/maps; never NULL. */
const char *file_path(const struct file *file);
/* Called once before the program starts: mounts the image, opens descriptors 0, 1 and 2. */
void files_init(void);
/* Closes what has O_CLOEXEC set, for execve. */
void files_exec(void);
/* Sets the working directory. */
long files_chdir(const char *path);

/* ---- the running program (exec.c), for /proc/self -------------------------------------------- */
struct program {
    char path[PATH_LIMIT]; /* of the executable, absolute */
    const char *arguments; /* NUL-terminated strings, one behind the other */
    size_t arguments_size;
    const char *environment; /* likewise */
    size_t environment_size;
    const void *auxiliary; /* the auxiliary vector */
    size_t auxiliary_size;
};
extern struct program program;

/* ---- syscalls -------------------------------------------------------------------------------- */
/* Every syscall is a function of this type, named sys_<name>, defined in the file of its family and
 * listed in syscalls.def, ordered by number: SYSCALL(number, name, support, "note"), support being
 * FULL, PARTIAL or NOTHING (accepted without effect). What is not listed gives ENOSYS and is counted. */
struct syscall_arguments {
    uint64_t a[6];
};
typedef long syscall_function(const struct syscall_arguments *arguments);
#define SYSCALL(number, name, support, note) syscall_function sys_##name;
#include "syscalls.def"
#undef SYSCALL
/* One line per system call that was asked for and is not there: "name count". Returns bytes written. */
size_t unsupported_syscalls_text(char *to, size_t room);

#endif
