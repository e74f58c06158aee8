/* A plug-in that does nothing: hears of nothing, or, with the argument `all`, of everything. */
#include <string.h>

#include <rlog_plugin.h>

static int32_t hear(rlog_call *call, const rlog_event *event, void *user)
{
    (void)call, (void)event, (void)user;
    return RLOG_OK;
}

static int32_t start(const rlog_host *host, rlog_plugin *plugin, rlog_call *call, const char *arguments, void **state)
{
    (void)call, (void)state;
    for (uint32_t kind = RLOG_CHANNEL_START; kind <= RLOG_ERROR && strcmp(arguments, "all") == 0; kind++)
        host->listen(plugin, kind, hear, NULL);
    return RLOG_OK;
}

const rlog_plugin_descriptor *rlog_plugin_entry(void)
{
    static const rlog_plugin_descriptor descriptor = {
        .struct_size = sizeof descriptor,
        .abi_version = RLOG_PLUGIN_ABI,
        .name = "nothing",
        .version = "1",
        .start = start,
    };
    return &descriptor;
}
