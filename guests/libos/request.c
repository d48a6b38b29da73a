/* request.c: what host calls of files and sockets say, as JSON. */
#include "request.h"
#include <linux/errno.h>

/* Two paths in which every byte needs an escape, and the rest. */
#define PARAMS_ROOM (2 * 8 * PATH_LIMIT + 512)

static char params_text[PARAMS_ROOM];
static struct hl_json_writer params;

struct hl_json_writer *host_params(void) {
    hl_json_start(&params, params_text, sizeof params_text);
    hl_json_open(&params, '{');
    return &params;
}

void host_param_name(const char *key, const char *name) {
    hl_json_key(&params, key);
    hl_json_text(&params, name);
}

void host_param_uint(const char *key, uint64_t value) {
    hl_json_key(&params, key);
    hl_json_uint(&params, value);
}

void host_param_bool(const char *key, bool value) {
    hl_json_key(&params, key);
    hl_json_bool(&params, value);
}

long host_ask_with(const char *method, const void *attachment, size_t size,
                   struct hl_json_value *result, struct host_reply *reply) {
    hl_json_close(&params, '}');
    size_t params_size = hl_json_finish(&params);
    if (!params_size)
        return -ENAMETOOLONG;
    long error = host_call(method, params_text, params_size, attachment, size, reply);
    if (error)
        return error;
    *result = (struct hl_json_value){reply->result, reply->result_size};
    return hl_json_type(*result) == '{' ? 0 : -EIO;
}

long host_ask(const char *method, struct hl_json_value *result) {
    struct host_reply reply;
    return host_ask_with(method, NULL, 0, result, &reply);
}

long host_ask_path(const char *method, const char *path) {
    struct hl_json_value result;
    host_params();
    host_param_name("path", path);
    return host_ask(method, &result);
}

long host_ask_handle(const char *method, uint64_t handle, struct hl_json_value *result) {
    host_params();
    host_param_uint("handle", handle);
    return host_ask(method, result);
}

long host_get_uint(struct hl_json_value result, const char *key, uint64_t *value) {
    struct hl_json_value member;
    return hl_json_member(result, key, &member) && hl_json_get_uint(member, value) ? 0 : -EIO;
}
