/*-------------------------------------------------------------------------
 *
 * alphabet.h
 *	  GPT-2's byte-to-unicode alphabet, and the first 256 ids.
 *
 * bytes_to_unicode in GPT-2's encoder.py: visible bytes of Latin-1 stand for
 * themselves, the other 68 in order for U+0100 and up.  Ids 0..255 are the
 * bytes in that order: the visible first.
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALPHABET_H
#define ALPHABET_H

#include <stdbool.h>
#include <stdint.h>

#define TR_N_BYTES	256

static inline bool
tr_byte_is_visible(int byte)
{
	return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* Fill byte_of_id with the byte that each id stands for. */
static inline void
tr_byte_ids(uint8_t byte_of_id[TR_N_BYTES])
{
	int			id = 0;

	for (int hidden = 0; hidden < 2; hidden++)
	{
		for (int byte = 0; byte < TR_N_BYTES; byte++)
		{
			if (tr_byte_is_visible(byte) == !hidden)
				byte_of_id[id++] = (uint8_t) byte;
		}
	}
}

/* The character of a byte in UTF-8; returns its length, 1 or 2. */
static inline int
tr_byte_character(int byte, char out[2])
{
	int			cp = byte;

	if (!tr_byte_is_visible(byte))
	{
		cp = 0x100;
		for (int before = 0; before < byte; before++)
			cp += !tr_byte_is_visible(before);
	}
	if (cp < 0x80)
	{
		out[0] = (char) cp;
		return 1;
	}
	out[0] = (char) (0xC0 | cp >> 6);
	out[1] = (char) (0x80 | (cp & 0x3F));
	return 2;
}

#endif							/* ALPHABET_H */
