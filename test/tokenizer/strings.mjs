/*
 * Random texts from a fixed seed, by kind, for the comparison of encoders.
 *
 * Code points are drawn from blocks that have been full, or have got no new
 * letters or digits, since Unicode 15, so that two Unicode versions agree on
 * their classes.
 */

/** mulberry32: a small generator with a 32-bit seed. */
export class Random {
	constructor(seed) {
		this.state = seed >>> 0;
	}
	next() {
		this.state = (this.state + 0x6d2b79f5) >>> 0;
		let t = this.state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return (t ^ (t >>> 14)) >>> 0;
	}
	below(n) {
		return this.next() % n;
	}
	pick(list) {
		return list[this.below(list.length)];
	}
	/** A string of low..high parts. */
	many(low, high, part) {
		let s = '';
		for (let n = low + this.below(high - low + 1); n > 0; n--)
			s += part();
		return s;
	}
	codePoint([first, last]) {
		return String.fromCodePoint(first + this.below(last - first + 1));
	}
}

const words = `the of and to in is that it was for on are with as his they be at one have this from
by hot but some what there we can out other were all your when up use word how said an each she
which do their time if will way about many then them would write like so these her long make thing
see him two has look more day could go come did my sound no most number who over know water than
call first people may down side been now find any new work part take get place made live where after
back little only round man year came show every good me give our under name very through just form
great think say help low line before turn cause same mean differ move right boy old too does tell
database transaction PostgreSQL antidisestablishmentarianism JavaScript tokenizer Llama OpenBLAS
naïve café Zürich straße Ελλάδα привет мир Việt Nam điều năm señor garçon œuvre İstanbul`.split(/\s+/);

const code = ['int main(void)', '{\n', '}\n', '\treturn 0;\n', '    if (x == NULL)\n', 'for (i = 0; i < n; i++)',
	'/* comment */', '// ---------', '#include <stdio.h>\n', 'def f(self, *args, **kwargs):\n', '        ',
	'\t\t', '"string\\n"', "'c'", '0xDEADBEEF', '1e-5f', 'a->b', 'x <<= 2;', '===', '!=', '&&', '||', '=>',
	'SELECT * FROM t WHERE id = $1;\n', '</div>\n', '<a href="#">', '{"k": [1, 2.5, null]}', '__init__',
	'camelCaseName', 'snake_case_name', 'CONSTANT_NAME', '\\d+', '@property', '...', '::', '\r\n', '`ls -la`'];

const spaces = [' ', ' ', ' ', '\n', '\n', '\t', '\r', '\r\n', '\v', '\f', '\u00a0', '\u1680', '\u2003',
	'\u2009', '\u200b', '\u2028', '\u2029', '\u202f', '\u205f', '\u3000', 'x', '.', '1'];

const emoji = ['🎉', '👩‍👩‍👧‍👦', '🏳️‍🌈', '🇩🇪', '🇻🇳', '👍🏽', '❤️', '☃', '1️⃣', '🦙', '🫠', '©', '™', '🀄', '🧑🏿‍🚀', '\u200d', '\ufe0f'];

const suffixes = ["s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "vE", "M", "LL", "Ll", "lL", "D",
	"x", "r", "l", "v", "se", "ss", " s", "1", "'s", "é"];

const marks = [[0x300, 0x36f], [0x591, 0x5bd], [0x64b, 0x65f], [0x93c, 0x94d], [0xe47, 0xe4e], [0x20d0, 0x20f0],
	[0xfe00, 0xfe0f], [0x3099, 0x309a]];

const scripts = [[0x21, 0x7e], [0xa1, 0x17e], [0x391, 0x3a1], [0x3b1, 0x3c9], [0x400, 0x52f], [0x5d0, 0x5ea],
	[0x620, 0x64a], [0x660, 0x669], [0x6f0, 0x6f9], [0x905, 0x939], [0x966, 0x96f], [0xe01, 0xe30], [0x10d0, 0x10fa],
	[0x1100, 0x1112], [0x2010, 0x2027], [0x2070, 0x2079], [0x20a0, 0x20bf], [0x2150, 0x2182], [0x2190, 0x23ff],
	[0x2460, 0x249b], [0x2500, 0x27bf], [0x3041, 0x3096], [0x30a1, 0x30fa], [0x4e00, 0x9fa5], [0xac00, 0xd7a3],
	[0xe000, 0xe0ff], [0xff10, 0xff19], [0xff21, 0xff3a], [0x1d400, 0x1d454], [0x1d7ce, 0x1d7ff], [0x1f300, 0x1f5ff],
	[0x20000, 0x2a6d6]];

const kinds = {
	prose: (r) => r.many(1, 40, () => r.pick(words) + r.pick([' ', ' ', ' ', ' ', ', ', '. ', '; ', '-', '\n', '\n\n', '  '])),
	code: (r) => r.many(1, 25, () => r.pick(code) + r.pick(['', '', ' ', '\n', '\n    ', '\n\t'])),
	digits: (r) => r.many(1, 20, () => r.many(1, 9, () => r.pick([...'0123456789', '٣', '５', '½', '²', 'Ⅳ'])) +
		r.pick(['', ' ', '.', ',', '-', ':', 'x', '  '])),
	'white space': (r) => r.many(1, 40, () => r.pick(spaces)),
	emoji: (r) => r.many(1, 20, () => r.pick(emoji) + r.pick(['', '', ' ', 'a', '\n'])),
	CJK: (r) => r.many(1, 40, () => r.codePoint(r.pick([[0x4e00, 0x9fa5], [0x4e00, 0x4fff], [0x3041, 0x3096], [0x30a1, 0x30fa],
		[0xac00, 0xd7a3], [0x3000, 0x3011], [0xff01, 0xff5e], [0x20000, 0x2a6d6]]))),
	Arabic: (r) => r.many(1, 40, () => r.pick([r.codePoint([0x620, 0x64a]), r.codePoint([0x620, 0x64a]), r.codePoint([0x64b, 0x652]),
		r.codePoint([0x660, 0x669]), ' ', '،', 'ـ', '\u200f', 'لا'])),
	'combining marks': (r) => r.many(1, 20, () => r.pick(['a', 'e', 'क', 'ก', 'か', 'א', 'م', ' ', '1', 'x']) +
		r.many(0, 3, () => r.codePoint(r.pick(marks)))),
	contractions: (r) => r.many(1, 15, () => r.pick([...words.slice(0, 40), '', ' ', 'I', '1']) + r.pick(["'", "'", "'", "’", "''"]) +
		r.pick(suffixes) + r.pick(['', ' ', 'n', '\n'])),
	'mixed scripts': (r) => r.many(1, 40, () => r.codePoint(r.pick(scripts)) + r.pick(['', '', '', ' ', '\n', "'"])),
	punctuation: (r) => r.many(1, 30, () => r.pick([...'!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~', '«', '…', '€', '\n', '\r\n', ' ', 'a', '1'])),
	'long words': (r) => r.many(30, 400, () => r.codePoint(r.pick([[0x61, 0x7a], [0x61, 0x66], [0x41, 0x5a], [0x430, 0x44f]]))),
	'runs of one character': (r) => r.pick(['a', 'A', ' ', '\n', '7', '!', '=', '-', '中', 'é', '\t', 'ا', '\r\n', ' \n', '🎉', '_'])
		.repeat(1 + r.below(700)) + r.pick(['', 'x', ' ', '\n', '1']),
};

/** count texts: [{kind, text}], all kinds equally often. */
export function makeTexts(seed, count) {
	const r = new Random(seed);
	const names = Object.keys(kinds);
	const texts = [];
	for (let i = 0; i < count; i++) {
		const kind = names[i % names.length];
		texts.push({kind, text: kinds[kind](r)});
	}
	return texts;
}

/** Texts full of what JavaScript's \s and letter case see differently. */
export function makeDifferingTexts(seed, count) {
	const r = new Random(seed);
	const parts = ['\u0085', '\ufeff', "'\u017f", '\u017f', ' ', '\n', 'a', '1', '!', "'s", '\u180e', '\u00a0'];
	return Array.from({length: count}, () => r.many(1, 15, () => r.pick(parts)));
}

/** Texts with special tokens, whole and broken, in them. */
export function makeSpecialTexts(seed, count, specials) {
	const r = new Random(seed);
	const parts = [' ', '\n\n', '  ', 'a', 'hello', '<|', '|>', '<|eot', '_id|>', "'s", '123456', '<', '🎉'];
	return Array.from({length: count}, () => r.many(1, 15, () => r.below(3) === 0 ? r.pick(specials) : r.pick(parts)));
}

/** Valid text, invalid bytes, valid text: {left, bad: Buffer, right}. */
export function makeInvalidTexts(seed, count) {
	const r = new Random(seed);
	const bad = [[0xff], [0xfe], [0x80], [0xbf, 0x80], [0xc0, 0xaf], [0xc3], [0xe2, 0x82], [0xf0, 0x9f, 0x8e],
		[0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xf8, 0x88, 0x80, 0x80, 0x80]];
	const kindNames = ['prose', 'code', 'CJK', 'contractions', 'mixed scripts', 'digits'];
	return Array.from({length: count}, () => ({
		left: kinds[r.pick(kindNames)](r) + 'x',
		bad: Buffer.from(Array.from({length: 1 + r.below(5)}, () => r.pick(bad)).flat()),
		right: 'x' + kinds[r.pick(kindNames)](r),
	}));
}
