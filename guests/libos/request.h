/* request.h: host calls in small steps: params, the question, members of the result. */
#ifndef LIBOS_REQUEST_H
#define LIBOS_REQUEST_H
#include <stdbool.h>
#include "libos.h"

/* The params object of the next request, open; there is one at a time. */
struct hl_json_writer *host_params(void);
void host_param_name(const char *key, const char *name);
void host_param_uint(const char *key, uint64_t value);
void host_param_bool(const char *key, bool value);
/* Closes the params and asks. *result is the result object; 0 or -errno, -EIO if it is none. */
long host_ask(const char *method, struct hl_json_value *result);
long host_ask_with(const char *method, const void *attachment, size_t size,
                   struct hl_json_value *result, struct host_reply *reply);
/* Asks about a path, or about a handle, with nothing else to say. */
long host_ask_path(const char *method, const char *path);
long host_ask_handle(const char *method, uint64_t handle, struct hl_json_value *result);
/* A member that is an integer, or -EIO. */
long host_get_uint(struct hl_json_value result, const char *key, uint64_t *value);

#endif
