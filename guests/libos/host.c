/* host.c: the door to the host: console records, host calls, parking, the end. */
#include "errno_names.h"
#include "ports.h"
#include "process.h"

static uint64_t exits;

uint64_t host_exits(void) { return exits; }

/* To a host that may read, write and change anything meanwhile. */
static void leave(uint16_t port, uint32_t value) {
    exits++;
    port_out(port, value);
}

/* ---- console --------------------------------------------------------------------------------- */
static struct hl_console_record *last_record; /* the one that may still grow */

static void console_flush(void) {
    leave(HL_PORT_CONSOLE, 0);
    last_record = NULL;
}

/* The record that text of this stream goes to, or NULL when the buffer is full. */
static struct hl_console_record *console_record(uint32_t stream) {
    struct hl_control *control = control_block();
    if (control->console_used == 0)
        last_record = NULL; /* the host has taken everything since */
    if (last_record && last_record->stream == stream)
        return last_record;
    if (boot_info()->console_size - control->console_used <= sizeof *last_record)
        return NULL;
    last_record = (void *)(boot_info()->console_address + control->console_used);
    *last_record = (struct hl_console_record){.stream = stream};
    control->console_used += sizeof *last_record;
    return last_record;
}

void console_write(uint32_t stream, const void *text, size_t size) {
    struct hl_control *control = control_block();
    const uint8_t *from = text;
    while (size) {
        struct hl_console_record *record = console_record(stream);
        size_t room = record ? boot_info()->console_size - control->console_used : 0;
        if (room == 0) {
            console_flush();
            continue;
        }
        size_t part = size < room ? size : room;
        memcpy((uint8_t *)(record + 1) + record->size, from, part);
        record->size += (uint32_t)part;
        control->console_used += (uint32_t)part;
        from += part;
        size -= part;
    }
    if (boot_info()->flags & HL_BOOT_STREAM_CONSOLE && control->console_used)
        console_flush();
}

void console_message(const char *text) { console_write(HL_CONSOLE_STDERR, text, strlen(text)); }

/* Bytes that must have been freed for a guest that stops to give them back: what one call needed the
 * next will need again, and each page of it costs two faults then. */
#define RELEASE_WHEN 0x1000000

/* ---- parking and the end --------------------------------------------------------------------- */
void guest_exit(int status) {
    for (;;)
        port_out(HL_PORT_EXIT, (uint32_t)status & 0xff);
}

void host_park_blocked(int64_t deadline_ns) {
    memory_release_free(RELEASE_WHEN);
    control_block()->park_deadline_ns = deadline_ns;
    leave(HL_PORT_PARK, HL_PARK_BLOCKED);
}

void host_release(uint64_t address, uint64_t size) {
    control_block()->release_address = address;
    control_block()->release_size = size;
    port_out(HL_PORT_RELEASE, 0);
}

uint64_t host_fault_address(void) {
    port_out(HL_PORT_FAULT_ADDRESS, 0);
    return control_block()->fault_address;
}

/* ---- frames ---------------------------------------------------------------------------------- */
static struct hl_frame *out_frame(void) { return (struct hl_frame *)boot_info()->out_address; }

size_t host_frame_size(const struct hl_frame *frame) {
    return frame->attachment_size ? (size_t)frame->attachment_offset + frame->attachment_size
                                  : sizeof *frame + frame->json_size;
}

/* Whether what the frame claims lies inside `room` bytes. */
static bool frame_fits(const struct hl_frame *frame, size_t room) {
    return room >= sizeof *frame && frame->json_size <= room - sizeof *frame &&
           frame->attachment_offset <= room &&
           frame->attachment_size <= room - frame->attachment_offset &&
           (!frame->attachment_size ||
            frame->attachment_offset >= sizeof *frame + (size_t)frame->json_size);
}

static const struct hl_frame *in_frame(void) {
    const struct hl_frame *frame = (const struct hl_frame *)boot_info()->in_address;
    bool fits = frame->abi_version == HL_ABI_VERSION && frame_fits(frame, boot_info()->in_size);
    return fits ? frame : NULL;
}

/* Copies a whole frame of the program's into the out buffer. */
static long put_frame(const void *frame, size_t size) {
    struct hl_frame header;
    if (size < sizeof header)
        return -EINVAL;
    memcpy(&header, frame, sizeof header);
    if (header.abi_version != HL_ABI_VERSION || !frame_fits(&header, size))
        return -EINVAL;
    if (size > boot_info()->out_size)
        return -EMSGSIZE;
    memcpy(out_frame(), frame, size);
    return 0;
}

long host_call_frame(const void *request_frame, size_t size, const struct hl_frame **response) {
    long error = put_frame(request_frame, size);
    if (error)
        return error;
    leave(HL_PORT_CALL, 0);
    *response = in_frame();
    return *response ? 0 : -EPROTO;
}

long host_serve(const void *reply_frame, size_t size, const struct hl_frame **request) {
    *out_frame() = (struct hl_frame){.abi_version = HL_ABI_VERSION};
    long error = size ? put_frame(reply_frame, size) : 0;
    if (error)
        return error;
    int64_t parked_ns = clock_monotonic_ns();
    memory_release_free(RELEASE_WHEN);
    leave(HL_PORT_PARK, HL_PARK_IDLE);
    clock_idle(parked_ns);
    *request = in_frame();
    return *request ? 0 : -EPROTO;
}

/* ---- host calls of the library OS itself ----------------------------------------------------- */
#define METHOD_NOT_FOUND -32601 /* JSON-RPC 2.0, section 5.1 */

uint8_t *host_call_attachment(size_t *room) {
    *room = boot_info()->out_size - HL_FRAME_BULK_OFFSET;
    return (uint8_t *)out_frame() + HL_FRAME_BULK_OFFSET;
}

/* Writes the request behind the header; its size, or 0 if it does not fit into `room`. */
static size_t put_request(char *to, size_t room, const char *method, const char *params,
                          size_t params_size) {
    static uint64_t id;
    struct hl_json_writer writer;
    hl_json_start(&writer, to, room);
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "jsonrpc");
    hl_json_text(&writer, "2.0");
    hl_json_key(&writer, "id");
    hl_json_uint(&writer, ++id);
    hl_json_key(&writer, "method");
    hl_json_text(&writer, method);
    hl_json_key(&writer, "params");
    hl_json_raw(&writer, params_size ? params : "{}", params_size ? params_size : 2);
    hl_json_close(&writer, '}');
    return hl_json_finish(&writer);
}

/* -errno of an error response. */
static long response_error(struct hl_json_value error) {
    struct hl_json_value value;
    int64_t code = 0;
    if (hl_json_member(error, "data", &value) && hl_json_member(value, "errno", &value)) {
        long number = errno_of_name(value);
        if (number)
            return -number;
    }
    if (hl_json_member(error, "code", &value) && hl_json_get_int(value, &code) &&
        code == METHOD_NOT_FOUND)
        return -ENOSYS;
    return -EIO;
}

/* Puts the answer to a request of the host's, made in the middle of a call, into the out buffer. */
static void put_refusal(struct hl_json_value request) {
    struct hl_frame *frame = out_frame();
    struct hl_json_value id = {"null", 4};
    struct hl_json_writer writer;
    hl_json_member(request, "id", &id);
    hl_json_start(&writer, (char *)(frame + 1), boot_info()->out_size - sizeof *frame);
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "jsonrpc");
    hl_json_text(&writer, "2.0");
    hl_json_key(&writer, "id");
    hl_json_raw(&writer, id.text, id.size);
    hl_json_key(&writer, "error");
    hl_json_open(&writer, '{');
    hl_json_key(&writer, "code");
    hl_json_int(&writer, METHOD_NOT_FOUND);
    hl_json_key(&writer, "message");
    hl_json_text(&writer, "the library OS itself serves no requests");
    hl_json_close(&writer, '}');
    hl_json_close(&writer, '}');
    *frame = (struct hl_frame){HL_ABI_VERSION, (uint32_t)hl_json_finish(&writer), 0, 0};
}

/* Leaves for the host until it has answered the request in the out buffer. */
static long exchange(const struct hl_frame **frame, struct hl_json_value *root) {
    struct hl_json_value method;
    for (;;) {
        leave(HL_PORT_CALL, 0);
        *frame = in_frame();
        if (!*frame || !hl_json_parse((const char *)(*frame + 1), (*frame)->json_size, root))
            return -EIO;
        if (!hl_json_member(*root, "method", &method))
            return 0;
        put_refusal(*root);
    }
}

static long take_response(struct host_reply *reply) {
    const struct hl_frame *frame;
    struct hl_json_value root, value;
    long error = exchange(&frame, &root);
    if (error)
        return error;
    if (hl_json_member(root, "error", &value))
        return response_error(value);
    if (!hl_json_member(root, "result", &value))
        return -EIO;
    *reply = (struct host_reply){value.text, value.size,
                                 (const uint8_t *)frame + frame->attachment_offset,
                                 frame->attachment_size};
    return 0;
}

/* The most the JSON of a request can take beyond its method and params. */
#define ENVELOPE 128

long host_call(const char *method, const char *params, size_t params_size, const void *attachment,
               size_t attachment_size, struct host_reply *reply) {
    struct hl_frame *frame = out_frame();
    size_t room = boot_info()->out_size;
    size_t json_room = sizeof *frame + strlen(method) + params_size + ENVELOPE;
    /* The attachment may have been built where the bulk begins: a long request moves it. */
    size_t offset = json_room <= HL_FRAME_BULK_OFFSET ? HL_FRAME_BULK_OFFSET : json_room;
    if (offset > room || attachment_size > room - offset)
        return -EMSGSIZE;
    uint8_t *place = (uint8_t *)frame + offset;
    if (attachment_size && attachment != place)
        memmove(place, attachment, attachment_size);
    size_t json_size =
        put_request((char *)(frame + 1), json_room - sizeof *frame, method, params, params_size);
    if (!json_size)
        return -EMSGSIZE;
    *frame = (struct hl_frame){HL_ABI_VERSION, (uint32_t)json_size,
                               attachment_size ? (uint32_t)offset : 0, (uint32_t)attachment_size};
    return take_response(reply);
}
