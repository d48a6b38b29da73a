/* start.c: entry point and request loop of native guests. */
#include "hl_guest.h"

/* The ABI note the host looks for. */
__attribute__((section(".note.hyperlight"), used, aligned(4))) static const struct {
    uint32_t name_size, version_size, type;
    char name[12];
    uint32_t version;
} abi_note = {sizeof HL_NOTE_OWNER, sizeof(uint32_t), HL_NOTE_ABI, HL_NOTE_OWNER, HL_ABI_VERSION};

/* The host has set RSP to the end of the guest's memory. */
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start: xor %ebp, %ebp\n"
        "  and $-16, %rsp\n"
        "  call hl_main\n"
        "  ud2\n");

void *memcpy(void *to, const void *from, size_t size) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t size) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
    return start;
}

void *memmove(void *to, const void *from, size_t size) {
    if ((uintptr_t)to - (uintptr_t)from >= size)
        return memcpy(to, from, size);
    for (size_t i = size; i-- > 0;)
        ((uint8_t *)to)[i] = ((const volatile uint8_t *)from)[i];
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const uint8_t *left = a, *right = b;
    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] - right[i];
    return 0;
}

size_t strlen(const char *text) {
    size_t size = 0;
    while (text[size]) {
        size++;
        __asm__ volatile("" : "+r"(size)); /* keeps the loop from becoming a call to strlen */
    }
    return size;
}

/* ---- console and exit --------------------------------------------------------------------------- */
void hl_write(uint32_t stream, const void *text, size_t size) {
    const uint8_t *at = text;
    const struct hl_boot_info *info = hl_boot_info();
    while (size) {
        uint64_t room = info->console_size - hl_control()->console_used;
        if (room <= sizeof(struct hl_console_record)) {
            hl_out(HL_PORT_CONSOLE, 0);
            continue;
        }
        room -= sizeof(struct hl_console_record);
        struct hl_console_record record = {stream, (uint32_t)(size < room ? size : room)};
        uint8_t *place = (uint8_t *)info->console_address + hl_control()->console_used;
        memcpy(place, &record, sizeof record);
        memcpy(place + sizeof record, at, record.size);
        hl_control()->console_used += (uint32_t)sizeof record + record.size;
        at += record.size, size -= record.size;
    }
    if (info->flags & HL_BOOT_STREAM_CONSOLE)
        hl_out(HL_PORT_CONSOLE, 0);
}

void hl_print(const char *text) { hl_write(HL_CONSOLE_STDOUT, text, strlen(text)); }

_Noreturn void hl_exit(int status) {
    for (;;)
        hl_out(HL_PORT_EXIT, status);
}

/* ---- frames ---------------------------------------------------------------------------------------- */
static char *out_json(void) {
    return (char *)hl_boot_info()->out_address + sizeof(struct hl_frame);
}
static size_t out_room(void) { return hl_boot_info()->out_size - sizeof(struct hl_frame); }

/* Completes the frame whose JSON is already in the out buffer; 0 if it does not fit. */
static int finish_frame(size_t json_size, const void *attachment, uint32_t attachment_size) {
    if (!json_size || attachment_size > out_room() - json_size)
        return 0;
    struct hl_frame frame = {HL_ABI_VERSION, (uint32_t)json_size,
                             (uint32_t)(sizeof frame + json_size), attachment_size};
    memcpy((void *)hl_boot_info()->out_address, &frame, sizeof frame);
    memcpy(out_json() + json_size, attachment, attachment_size);
    return 1;
}

/* The frame in the in buffer, its JSON parsed. The host is trusted, but may have put nothing there. */
static int read_frame(struct hl_json_value *root, const uint8_t **attachment,
                      uint32_t *attachment_size) {
    const uint8_t *buffer = (const uint8_t *)hl_boot_info()->in_address;
    struct hl_frame frame;
    memcpy(&frame, buffer, sizeof frame);
    *attachment = buffer + frame.attachment_offset;
    *attachment_size = frame.attachment_size;
    return hl_json_parse((const char *)buffer + sizeof frame, frame.json_size, root);
}

/* Answers the request that the host asks in the middle of a host call of the guest's. */
static void answer_within(void);

/* Leaves for the host until it has answered; *root is the response. */
static int exchange(struct hl_json_value *root, const uint8_t **attachment, uint32_t *size) {
    struct hl_json_value method;
    for (;;) {
        hl_out(HL_PORT_CALL, 0);
        if (!read_frame(root, attachment, size))
            return 0;
        if (!hl_json_member(*root, "method", &method))
            return 1;
        answer_within();
    }
}

int hl_call(const char *method, const char *params, size_t params_size, const void *attachment,
            uint32_t attachment_size, struct hl_answer *answer) {
    struct hl_json_writer writer;
    struct hl_json_value root;
    hl_json_start(&writer, out_json(), out_room());
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "jsonrpc");
    hl_json_text(&writer, "2.0");
    hl_json_key(&writer, "id");
    hl_json_uint(&writer, 1);
    hl_json_key(&writer, "method");
    hl_json_text(&writer, method);
    hl_json_key(&writer, "params");
    hl_json_raw(&writer, params, params_size);
    hl_json_close(&writer, '}');
    *answer = (struct hl_answer){{"null", 4}, NULL, 0};
    if (!finish_frame(hl_json_finish(&writer), attachment, attachment_size))
        return 0;
    if (!exchange(&root, &answer->attachment, &answer->attachment_size))
        return 0;
    if (hl_json_member(root, "result", &answer->value))
        return 1;
    hl_json_member(root, "error", &answer->value);
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------------- */
static char request_text[65536], result_text[65536];
static size_t request_size;
static struct hl_request *answered; /* whose texts these are, or NULL */

int hl_param_int(const struct hl_request *request, const char *name, int64_t *value) {
    struct hl_json_value found;
    return hl_json_member(request->params, name, &found) && hl_json_get_int(found, value);
}

int hl_param_text(const struct hl_request *request, const char *name, char *to, size_t room,
                  size_t *size) {
    struct hl_json_value found;
    return hl_json_member(request->params, name, &found) &&
           hl_json_get_string(found, to, room, size);
}

static void start_result(struct hl_request *request) {
    hl_json_start(&request->result, result_text, sizeof result_text);
}

void hl_reply_error(struct hl_request *request, int code, const char *message) {
    request->failed = 1;
    start_result(request);
    hl_json_open(&request->result, '{');
    hl_json_key(&request->result, "code");
    hl_json_int(&request->result, code);
    hl_json_key(&request->result, "message");
    hl_json_text(&request->result, message);
    hl_json_close(&request->result, '}');
}

static void serve(struct hl_request *request, struct hl_json_value method) {
    for (const struct hl_method *known = hl_methods; known->name; known++)
        if (hl_json_equals(method, known->name)) {
            known->handler(request);
            return;
        }
    hl_reply_error(request, HL_ERROR_METHOD, "the guest has no such function");
}

static size_t write_reply(const struct hl_request *request, struct hl_json_value id) {
    struct hl_json_writer writer;
    size_t size = hl_json_finish(&request->result);
    hl_json_start(&writer, out_json(), out_room());
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "jsonrpc");
    hl_json_text(&writer, "2.0");
    hl_json_key(&writer, "id");
    hl_json_raw(&writer, id.text, id.size);
    hl_json_key(&writer, request->failed ? "error" : "result");
    if (size)
        hl_json_raw(&writer, result_text, size);
    else
        hl_json_null(&writer);
    hl_json_close(&writer, '}');
    return hl_json_finish(&writer);
}

/* Takes the request out of the in buffer, which a host call overwrites; 0 if it is none. */
static int take_request(struct hl_request *request, struct hl_json_value *id,
                        struct hl_json_value *method) {
    struct hl_json_value root;
    if (!read_frame(&root, &request->attachment, &request->attachment_size) ||
        root.size > sizeof request_text)
        return 0;
    request_size = root.size;
    memcpy(request_text, root.text, root.size);
    if (!hl_json_parse(request_text, root.size, &root))
        return 0;
    hl_json_member(root, "id", id);
    hl_json_member(root, "params", &request->params);
    return hl_json_member(root, "method", method);
}

/* Answers the request in the in buffer. */
static void answer(void) {
    struct hl_request request = {0}, *outer = answered;
    struct hl_json_value id = {"null", 4}, method;
    start_result(&request);
    answered = &request;
    if (take_request(&request, &id, &method))
        serve(&request, method);
    else
        hl_reply_error(&request, HL_ERROR_REQUEST, "no request, or too large");
    if (!finish_frame(write_reply(&request, id), request.reply_attachment,
                      request.reply_attachment_size)) {
        request.reply_attachment_size = 0;
        hl_reply_error(&request, HL_ERROR_INTERNAL, "the result does not fit");
        finish_frame(write_reply(&request, id), NULL, 0);
    }
    answered = outer;
}

/* The texts of the outer request are static, so they wait on the stack. */
static void answer_within(void) {
    size_t outer_size = request_size, result_size = answered ? answered->result.size : 0;
    char texts[outer_size + result_size + 1];
    memcpy(texts, request_text, outer_size);
    memcpy(texts + outer_size, result_text, result_size);
    answer();
    memcpy(request_text, texts, outer_size);
    memcpy(result_text, texts + outer_size, result_size);
    request_size = outer_size;
}

_Noreturn void hl_main(void) {
    *(struct hl_frame *)hl_boot_info()->out_address = (struct hl_frame){HL_ABI_VERSION, 0, 0, 0};
    for (;;) {
        hl_out(HL_PORT_PARK, HL_PARK_IDLE);
        answer();
    }
}
