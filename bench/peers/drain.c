/*
 * A consumer written by hand in C on hiredis: reads 500 events, deletes their keys, tells of it, acknowledges; each step awaits the one before.
 *
 *   drain PORT whole SCRIPT   the whole job: delete, log and publish in one script
 *   drain PORT plain          without the log: UNLINK and PUBLISH in one pipeline
 *
 * Events carry JSON in the field `data`, and the only attribute of interest is `key_hash`. It is searched for rather than parsed, and the arrays
 * of a batch are allocated once: this is about as little work as a consumer can do.
 */
#define _GNU_SOURCE
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 500
#define READ "XREADGROUP GROUP unstale peer COUNT 500 BLOCK 1000 STREAMS unstale:events >"
#define CHANNEL "unstale:notices"
#define LOG "unstale:notices"
#define NUMBERS "unstale:notices:seq"
#define PREFIX "vkey:"
#define LONGEST 256

static redisContext *redis;

static char keys[BATCH][LONGEST], notice[BATCH * (LONGEST + 4) + 256];
static size_t key_lengths[BATCH], notice_length, count;
/* The acknowledgement points into the reply of the read, which lives until then. */
static const char *ack[3 + BATCH] = {"XACK", "unstale:events", "unstale"};
static size_t ack_lengths[3 + BATCH] = {4, 14, 7};
/* EVALSHA, the script, how many keys, the log, the numbers, the keys, the notice, the channel. */
static const char *words[7 + BATCH];
static size_t lengths[7 + BATCH];

static void fail(const char *what) {
    fprintf(stderr, "drain: %s: %s\n", what, redis && redis->err ? redis->errstr : "unexpected");
    exit(1);
}

static redisReply *checked(void *reply, const char *what) {
    redisReply *answer = reply;
    if (!answer) fail(what);
    if (answer->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "drain: %s: %s\n", what, answer->str);
        exit(1);
    }
    return answer;
}

static redisReply *answer(const char *what) {
    void *reply = NULL;
    if (redisGetReply(redis, &reply) != REDIS_OK) fail(what);
    return checked(reply, what);
}

static void word(int at, const char *text, size_t length) {
    words[at] = text;
    lengths[at] = length;
}

/* Takes the key out of an entry's `data`. */
static void decode(redisReply *entry) {
    redisReply *id = entry->element[0], *fields = entry->element[1];
    ack[3 + count] = id->str;
    ack_lengths[3 + count] = id->len;
    for (size_t field = 0; field + 1 < fields->elements; field += 2) {
        redisReply *name = fields->element[field], *data = fields->element[field + 1];
        if (name->len != 4 || memcmp(name->str, "data", 4)) continue;
        static const char wanted[] = "\"key_hash\":\"";
        char *hash = memmem(data->str, data->len, wanted, sizeof wanted - 1);
        if (!hash) fail("an event without key_hash");
        hash += sizeof wanted - 1;
        char *end = memchr(hash, '"', data->str + data->len - hash);
        size_t length = end ? (size_t)(end - hash) : 0;
        if (!length || length + sizeof PREFIX > LONGEST) fail("a key_hash that is empty or too long");
        memcpy(keys[count], PREFIX, sizeof PREFIX - 1);
        memcpy(keys[count] + sizeof PREFIX - 1, hash, length);
        key_lengths[count++] = sizeof PREFIX - 1 + length;
        return;
    }
    fail("an event without data");
}

/* Tells of all the keys. They need no escapes: they stood in JSON. */
static void write_notice(void) {
    char *to = stpcpy(notice, "{\"v\":1,\"drop\":[{\"cache\":\"virtual_key\",\"keys\":[");
    for (size_t key = 0; key < count; key++) {
        if (key) *to++ = ',';
        *to++ = '"';
        to = mempcpy(to, keys[key], key_lengths[key]);
        *to++ = '"';
    }
    notice_length = stpcpy(to, "]}]}") - notice;
}

static void deliver_whole(const char *sha) {
    char keys_count[16];
    word(0, "EVALSHA", 7);
    word(1, sha, strlen(sha));
    word(2, keys_count, snprintf(keys_count, sizeof keys_count, "%zu", 2 + count));
    word(3, LOG, sizeof LOG - 1);
    word(4, NUMBERS, sizeof NUMBERS - 1);
    for (size_t key = 0; key < count; key++) word(5 + key, keys[key], key_lengths[key]);
    word(5 + count, notice, notice_length);
    word(6 + count, CHANNEL, sizeof CHANNEL - 1);
    freeReplyObject(checked(redisCommandArgv(redis, 7 + count, words, lengths), "the script"));
}

static void deliver_plain(void) {
    word(0, "UNLINK", 6);
    for (size_t key = 0; key < count; key++) word(1 + key, keys[key], key_lengths[key]);
    redisAppendCommandArgv(redis, 1 + count, words, lengths);
    redisAppendCommand(redis, "PUBLISH " CHANNEL " %b", notice, notice_length);
    freeReplyObject(answer("UNLINK"));
    freeReplyObject(answer("PUBLISH"));
}

/* Loads the script and returns its name. */
static char *load(const char *path) {
    static char text[65536];
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return checked(redisCommand(redis, "SCRIPT LOAD %s", text), "SCRIPT LOAD")->str;
}

int main(int argc, char **argv) {
    if (argc < 3) fail("usage: drain PORT whole SCRIPT | drain PORT plain");
    redis = redisConnect("127.0.0.1", atoi(argv[1]));
    if (!redis || redis->err) fail("connect");
    const char *sha = argc > 3 ? load(argv[3]) : NULL;
    for (;;) {
        redisReply *read = checked(redisCommand(redis, READ), "XREADGROUP");
        if (read->type == REDIS_REPLY_ARRAY) {
            redisReply *entries = read->element[0]->element[1];
            count = 0;
            for (size_t entry = 0; entry < entries->elements; entry++) decode(entries->element[entry]);
            write_notice();
            if (sha) deliver_whole(sha);
            else deliver_plain();
            freeReplyObject(checked(redisCommandArgv(redis, 3 + count, ack, ack_lengths), "XACK"));
        }
        freeReplyObject(read);
    }
}
