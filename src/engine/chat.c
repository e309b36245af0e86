/*-------------------------------------------------------------------------
 *
 * chat.c
 *	  From chat messages to the prompt's tokens.
 *
 * Sources: Meta's prompt format pages for Llama 3 and 3.1, and the chat
 * templates that Meta's own Hugging Face repositories carry.  A message is
 *
 *	<|start_header_id|>ROLE<|end_header_id|>\n\nCONTENT<|eot_id|>
 *
 * The four special tokens come from here, as ids.  What stands between them
 * is one run of text each ("\n\n" with the content, as in the template's one
 * string), encoded with special tokens off: nothing that a user or a table's
 * row says can end its own turn or begin another.
 *
 * Two liberties: the dates of 3.1 are pinned (a prompt may not depend on the
 * day), and a tool's result is taken as it is, where the template would quote
 * it as JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "tokenizer_image.h"

#include <stdlib.h>

#include "utf8.h"

#define HEADER_END_TEXT	"\n\n"
#define DATES_TEXT		"Cutting Knowledge Date: December 2023\n" \
						"Today Date: 26 Jul 2024\n\n"

typedef struct Chat
{
	const L3Tokenizer *tok;
	L3Ids	   *ids;
	L3Error    *err;
} Chat;

static bool
role_is(const L3Message *message, const char *role)
{
	return message->role_len == strlen(role) &&
		memcmp(message->role, role, message->role_len) == 0;
}

/* The role as the header writes it, or NULL when there is no such role. */
static const char *
header_role(const L3Message *message)
{
	static const char *const roles[] = {"system", "user", "assistant", "ipython"};

	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (role_is(message, roles[i]))
			return roles[i];
	return role_is(message, "tool") ? "ipython" : NULL;
}

/*
 * White space for jinja's trim, which is Python's str.strip: White_Space and
 * the four information separators.
 */
static bool
is_trimmed(uint32_t cp)
{
	return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20) ||
		cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
		(cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
		cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

/* Length of the white-space character that ends the n (>= 1) bytes, or 0. */
static unsigned
last_space(const uint8_t *p, size_t n)
{
	/* No white space is longer than three bytes. */
	for (unsigned back = 1; back <= 3 && back <= n; back++)
	{
		uint32_t	cp;

		if (l3_utf8_decode(p + n - back, back, &cp) == back && is_trimmed(cp))
			return back;
	}
	return 0;
}

static void
trim(const char **text, size_t *len)
{
	unsigned	n;
	uint32_t	cp;

	while (*len > 0)
	{
		n = l3_utf8_decode((const uint8_t *) *text, *len, &cp);
		if (!is_trimmed(cp))
			break;
		*text += n;
		*len -= n;
	}
	while (*len > 0 && (n = last_space((const uint8_t *) *text, *len)) > 0)
		*len -= n;
}

static L3Status
put_special(Chat *chat, int32_t id)
{
	return l3_ids_append(chat->ids, &id, 1, chat->err);
}

static L3Status
put_text(Chat *chat, const char *text, size_t len)
{
	return l3_tokenizer_encode_ids(chat->tok, text, len, false, chat->ids, chat->err);
}

/* The header, up to and with <|end_header_id|>. */
static L3Status
put_header(Chat *chat, const char *role)
{
	L3Status	status = put_special(chat, chat->tok->header.start_header);

	if (status == L3_OK)
		status = put_text(chat, role, strlen(role));
	if (status == L3_OK)
		status = put_special(chat, chat->tok->header.end_header);
	return status;
}

/* A whole message: lead and content are one run of text. */
static L3Status
put_message(Chat *chat, const char *role, const char *lead,
			const char *content, size_t len)
{
	size_t		lead_len = strlen(lead);
	char	   *run;
	L3Status	status = put_header(chat, role);

	if (status != L3_OK)
		return status;
	trim(&content, &len);
	run = malloc(lead_len + len);
	if (run == NULL)
		return l3_error(chat->err, L3_ERR_MEMORY, "out of memory for a chat message");
	memcpy(run, lead, lead_len);
	if (len > 0)
		memcpy(run + lead_len, content, len);
	status = put_text(chat, run, lead_len + len);
	free(run);
	if (status == L3_OK)
		status = put_special(chat, chat->tok->header.end_turn);
	return status;
}

static L3Status
check_messages(const L3Message *messages, size_t n, L3Error *err)
{
	if (n == 0)
		return l3_error(err, L3_ERR_ARG, "a chat needs at least one message");
	for (size_t i = 0; i < n; i++)
	{
		int			len = messages[i].role_len > 64 ? 64 : (int) messages[i].role_len;

		if (header_role(&messages[i]) == NULL)
		{
			l3_error(err, L3_ERR_ARG, "unknown role \"%.*s\" in message %zu",
					 len, messages[i].role, i + 1);
			l3_error_detail(err, "Known roles are system, user, assistant, tool and ipython.");
			return L3_ERR_ARG;
		}
		if (i > 0 && role_is(&messages[i], "system"))
			return l3_error(err, L3_ERR_ARG,
							"message %zu is a system message, which only the first can be",
							i + 1);
	}
	return L3_OK;
}

static L3Status
put_chat(Chat *chat, const L3Message *messages, size_t n, bool add_assistant)
{
	bool		dated = chat->tok->header.chat_form == L3_CHAT_LLAMA31;
	size_t		first = 0;
	L3Status	status = put_special(chat, chat->tok->header.bos);

	if (dated && status == L3_OK)
	{
		/* 3.1 has a system block in any case. */
		first = role_is(&messages[0], "system") ? 1 : 0;
		status = put_message(chat, "system", HEADER_END_TEXT DATES_TEXT,
							 first ? messages[0].content : "",
							 first ? messages[0].content_len : 0);
	}
	for (size_t i = first; i < n && status == L3_OK; i++)
		status = put_message(chat, header_role(&messages[i]), HEADER_END_TEXT,
							 messages[i].content, messages[i].content_len);
	if (add_assistant && status == L3_OK)
		status = put_header(chat, "assistant");
	if (add_assistant && status == L3_OK)
		status = put_text(chat, HEADER_END_TEXT, strlen(HEADER_END_TEXT));
	return status;
}

L3Status
l3_chat_encode(const L3Tokenizer *tok, const L3Message *messages,
			   size_t n_messages, bool add_assistant,
			   L3Ids *ids, L3Error *err)
{
	Chat		chat = {.tok = tok,.ids = ids,.err = err};
	size_t		n_before = ids->n;
	L3Status	status;

	if (tok->header.chat_form == L3_CHAT_NONE)
	{
		l3_error(err, L3_ERR_UNSUPPORTED,
				 l3_tokenizer_has_template(tok) ?
				 "the model's chat template is not one of Llama 3" :
				 "the model has no chat template");
		l3_error_hint(err, "Use raw completion, or load an instruction-tuned Llama 3 model.");
		return L3_ERR_UNSUPPORTED;
	}
	status = check_messages(messages, n_messages, err);
	if (status == L3_OK)
		status = put_chat(&chat, messages, n_messages, add_assistant);
	if (status != L3_OK)
		ids->n = n_before;
	return status;
}
