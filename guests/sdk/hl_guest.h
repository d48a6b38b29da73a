/* hl_guest.h: the interface for native guests, which run in the micro-VM with no operating system.
 *
 * A guest defines hl_methods; start.c answers the host's requests from it, one at a time, or, where
 * a host function calls the guest back, one within a host call of another:
 *
 *     static void add(struct hl_request *request) {
 *         int64_t a, b;
 *         if (!hl_param_int(request, "a", &a) || !hl_param_int(request, "b", &b))
 *             return hl_reply_error(request, HL_ERROR_PARAMS, "add takes the integers a and b");
 *         hl_json_int(&request->result, a + b);
 *     }
 *     const struct hl_method hl_methods[] = {{"add", add}, {0}};
 *
 * Build: gcc -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie
 *            -Wl,-Ttext-segment=0x210000 -o guest.elf guest.c start.c
 */
#ifndef HL_GUEST_H
#define HL_GUEST_H
#include "hl_abi.h"
#include "hl_json.h"

/* JSON-RPC 2.0, section 5.1. */
#define HL_ERROR_REQUEST -32600
#define HL_ERROR_METHOD -32601
#define HL_ERROR_PARAMS -32602
#define HL_ERROR_INTERNAL -32603

struct hl_request {
    struct hl_json_value params;
    const uint8_t *attachment; /* lies in the in buffer: gone after the next host call */
    uint32_t attachment_size;
    /* Where the handler writes the result, one JSON value; null if it writes none. */
    struct hl_json_writer result;
    /* An attachment for the reply, in the guest's own memory. */
    const uint8_t *reply_attachment;
    uint32_t reply_attachment_size;
    int failed;
};

struct hl_method {
    const char *name;
    void (*handler)(struct hl_request *request);
};

/* What the guest serves, ended by a member without a name. */
extern const struct hl_method hl_methods[];

static inline const struct hl_boot_info *hl_boot_info(void) {
    return (const struct hl_boot_info *)HL_BOOT_INFO_ADDRESS;
}
static inline struct hl_control *hl_control(void) {
    return (struct hl_control *)HL_CONTROL_ADDRESS;
}

/* Leaves the VM through a port; the host may have changed any memory when it returns. */
#define hl_out(port, value)                                                                        \
    __asm__ volatile("out %%eax, %1" : : "a"((uint32_t)(value)), "N"(port) : "memory")

/* Parameters by name; 1 and the value, or 0 if it is missing or of another type. */
int hl_param_int(const struct hl_request *request, const char *name, int64_t *value);
/* The bytes are not NUL-terminated. */
int hl_param_text(const struct hl_request *request, const char *name, char *to, size_t room,
                  size_t *size);

/* Answers with an error instead of the result. */
void hl_reply_error(struct hl_request *request, int code, const char *message);

/* Calls a host function. `params` is the JSON text of its params object. Returns 1 if it answered
 * with a result, 0 if with an error; either way *value is that JSON value, inside the in buffer. */
struct hl_answer {
    struct hl_json_value value;
    const uint8_t *attachment;
    uint32_t attachment_size;
};
int hl_call(const char *method, const char *params, size_t params_size, const void *attachment,
            uint32_t attachment_size, struct hl_answer *answer);

/* Console output, gathered until the next exit. */
void hl_print(const char *text);
void hl_write(uint32_t stream, const void *text, size_t size);

_Noreturn void hl_exit(int status);

/* What start.c needs from the compiler's library. */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
void *memmove(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);

#endif
