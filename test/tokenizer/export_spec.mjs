/*
 * Write the vocabulary of a tokenizer.json as the plain file that spec_file.h
 * reads.  exportSpec(tokenizer.json's contents, options) returns the bytes.
 */

/** Growing little-endian writer. */
class Writer {
	constructor() {
		this.parts = [];
	}
	u8(v) {
		this.parts.push(Buffer.from([v]));
	}
	i32(v) {
		const b = Buffer.alloc(4);
		b.writeInt32LE(v | 0);
		this.parts.push(b);
	}
	string(s) {
		const b = Buffer.from(s, 'utf8');
		this.i32(b.length);
		this.parts.push(b);
	}
}

/** GPT-2's alphabet (encoder.py): the byte that each character stands for. */
export const byteOf = new Map();
for (let byte = 0, other = 0; byte < 256; byte++) {
	const printable = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
	byteOf.set(String.fromCodePoint(printable ? byte : 0x100 + other++), byte);
}

const NORMAL = 1;
const CONTROL = 3;
const USER_DEFINED = 4;

export function exportSpec(json, {pre, template}) {
	const tokens = [];
	for (const [text, id] of Object.entries(json.model.vocab))
		tokens[id] = {text, type: NORMAL};
	for (const added of json.added_tokens)
		tokens[added.id] = {text: added.content, type: added.special ? CONTROL : USER_DEFINED};
	const find = (text) => json.added_tokens.find((t) => t.content === text)?.id ?? -1;

	const out = new Writer();
	out.parts.push(Buffer.from('L3SPEC1\n'));
	out.string(pre);
	out.i32(find('<|begin_of_text|>'));
	out.i32(find('<|end_of_text|>'));
	out.i32(find('<|eot_id|>'));
	out.i32(find('<|eom_id|>'));
	out.string(template ?? '');
	out.i32(tokens.length);
	for (const token of tokens) {
		out.u8(token.type);
		out.string(token.text);
	}
	out.i32(json.model.merges.length);
	for (const merge of json.model.merges) {
		const [left, right] = Array.isArray(merge) ? merge : merge.split(' ');
		out.string(left);
		out.string(right);
	}
	return Buffer.concat(out.parts);
}
