/* A plug-in for tests: refuses every row whose first column is the number that it is given. */
#include <stdio.h>
#include <stdlib.h>

#include <rlog_plugin.h>

static const rlog_host *rlog;
static long number;

static int32_t on_row(rlog_call *call, const rlog_event *event, void *user)
{
    char text[40];
    const rlog_value *values = rlog->values(call, event->row->images & RLOG_IMAGE_AFTER ? RLOG_IMAGE_AFTER : RLOG_IMAGE_BEFORE);
    (void)user;
    if (values[0].type != RLOG_INT || values[0].number.i != number)
        return RLOG_OK;
    rlog->set_error(call, text, (size_t)snprintf(text, sizeof text, "row %ld is not welcome", number));
    return RLOG_VETO;
}

static int32_t start(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state)
{
    (void)call, (void)state;
    rlog = host;
    number = atol(arguments);
    host->listen(plugin, RLOG_ROW_BEFORE, on_row, NULL);
    return RLOG_OK;
}

const rlog_plugin_descriptor *rlog_plugin_entry(void)
{
    static const rlog_plugin_descriptor descriptor = {
        .struct_size = sizeof descriptor,
        .abi_version = RLOG_PLUGIN_ABI,
        .name = "refuse",
        .version = "1",
        .start = start,
    };
    return &descriptor;
}
